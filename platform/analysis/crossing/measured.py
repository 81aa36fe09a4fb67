"""Crossings of measured losses in a table: the best so far for as many FLOPs, and equal epochs of one size.

Both are linear between what was measured (in ln FLOPs or ln epochs), and go below for good within it. Draws add noise
to every row, of the size by which rows differ from the fitted law; runs repeated with other seeds are averaged, and
drawn again with replacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.crossing.results import CrossingEntry, Kind
from crossover.platform.analysis.crossing.roles import Pair
from crossover.platform.analysis.crossings import last_descent, quantiles
from crossover.platform.analysis.scaling_laws.table import LossTable

__all__ = ["measured_crossings"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def measured_crossings(
    table: LossTable, pair: Pair, unique_tokens: float, noise: float, *, num_draws: int, seed: int
) -> list[CrossingEntry]:
    """Crossings with U unique tokens; a kind without a range that both families cover is left out.

    Args:
        table: losses.
        pair: who is crossed, and who crosses.
        unique_tokens: U.
        noise: standard error of ln loss of one row.
        num_draws: draws of noise and seeds.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, 3])
    first, second = (
        _Side.drawn(table.take((table.family == name) & (table.unique == unique_tokens)), noise, num_draws, generator)
        for name in (pair.baseline, pair.challenger)
    )
    found = [_envelope(first, second, pair, unique_tokens), _equal_epochs(first, second, pair, unique_tokens)]
    return [entry for entry in found if entry is not None]


@dataclass(frozen=True)
class _Side:
    """One family's distinct points, by FLOPs.

    Args:
        log_loss_BR: mean over seeds; row 0 as measured.
    """

    params_R: Floats
    epochs_R: Floats
    log_flops_R: Floats
    log_loss_BR: Floats

    @classmethod
    def drawn(cls, rows: LossTable, noise: float, num_draws: int, generator: np.random.Generator) -> _Side:
        points, member_R = np.unique(np.stack([rows.flops, rows.params, rows.tokens]), axis=1, return_inverse=True)
        member_R = member_R.reshape(-1)
        log_R = np.log(rows.loss)
        mean = np.bincount(member_R, weights=log_R) / np.bincount(member_R)
        drawn = np.empty((num_draws + 1, points.shape[1]))
        drawn[0] = mean
        for place in range(points.shape[1]):
            own = log_R[member_R == place]
            if len(own) > 1:
                drawn[1:, place] = generator.choice(own, (num_draws, len(own))).mean(axis=1)
            else:
                drawn[1:, place] = own[0] + generator.normal(0, noise, num_draws)
        return cls(points[1], points[2] / rows.unique[0], np.log(points[0]), drawn)

    def of_size(self, params: float) -> _Side:
        rows = np.flatnonzero(self.params_R == params)
        return _Side(self.params_R[rows], self.epochs_R[rows], self.log_flops_R[rows], self.log_loss_BR[:, rows])


def _envelope(first: _Side, second: _Side, pair: Pair, unique_tokens: float) -> CrossingEntry | None:
    grid = np.unique(np.concatenate([first.log_flops_R, second.log_flops_R]))
    grid = grid[(grid >= max(first.log_flops_R[0], second.log_flops_R[0])) & (grid <= second.log_flops_R[-1])]
    if len(grid) < 2:
        return None
    gap = _best_so_far(second, grid) - _best_so_far(first, grid)
    log_flops_B = last_descent(gap, grid)
    params_B = _params_of_best(second, log_flops_B)
    return _entry("measured_envelope", pair, unique_tokens, log_flops_B, params_B, grid, gap)


def _best_so_far(side: _Side, grid: Floats) -> Floats:
    place = np.searchsorted(side.log_flops_R, grid, side="right") - 1
    best: Floats = np.minimum.accumulate(side.log_loss_BR, axis=1)[:, place]
    return best


def _params_of_best(side: _Side, log_flops_B: Floats) -> Floats:
    """N of the best row within each draw's FLOPs."""
    shown = np.where(np.isfinite(log_flops_B), log_flops_B, side.log_flops_R[-1])
    within = side.log_flops_R[None] <= shown[:, None] + 1e-12
    params_B: Floats = side.params_R[np.where(within, side.log_loss_BR, np.inf).argmin(axis=1)]
    return params_B


def _equal_epochs(first: _Side, second: _Side, pair: Pair, unique_tokens: float) -> CrossingEntry | None:
    """Of the size that crosses with the fewest FLOPs; of the one measured longest where none crosses."""
    entries = []
    for params in np.intersect1d(first.params_R, second.params_R):
        a, b = first.of_size(params), second.of_size(params)
        logs = [np.log(side.epochs_R) for side in (a, b)]
        grid = np.unique(np.concatenate(logs))
        grid = grid[(grid >= max(log[0] for log in logs)) & (grid <= min(log[-1] for log in logs))]
        if len(grid) < 2:
            continue
        gap = _interpolated(b, logs[1], grid) - _interpolated(a, logs[0], grid)
        base = np.log(6 * params * unique_tokens)
        log_flops_B = base + last_descent(gap, grid)
        params_B = np.full(len(log_flops_B), params)
        entries.append(_entry("measured_equal_epochs", pair, unique_tokens, log_flops_B, params_B, base + grid, gap))
    crossing = [entry for entry in entries if entry.flops.estimate is not None]
    if crossing:
        return min(crossing, key=lambda entry: entry.flops.estimate or np.inf)
    return max(entries, key=lambda entry: entry.range_flops[1], default=None)


def _interpolated(side: _Side, log_epochs_R: Floats, grid: Floats) -> Floats:
    weights_RG = np.stack([np.interp(grid, log_epochs_R, unit) for unit in np.eye(len(log_epochs_R))])
    found: Floats = side.log_loss_BR @ weights_RG
    return found


def _entry(
    kind: Kind, pair: Pair, unique_tokens: float, log_flops_B: Floats, params_B: Floats, grid: Floats, gap: Floats
) -> CrossingEntry:
    flops_B = np.exp(log_flops_B)
    tokens_B = flops_B / (6 * params_B)
    none_B = ~np.isfinite(log_flops_B)
    return CrossingEntry(
        unique_tokens=unique_tokens,
        kind=kind,
        baseline=pair.baseline,
        challenger=pair.challenger,
        setting=pair.setting,
        flops=quantiles(flops_B),
        epochs=quantiles(tokens_B / unique_tokens),
        tokens=quantiles(tokens_B),
        params=quantiles(np.where(none_B, np.inf, params_B)),
        probability_none=float(none_B[1:].mean()),
        range_flops=(float(np.exp(grid[0])), float(np.exp(grid[-1]))),
        extrapolated=False,
        ahead_from_start=bool((gap[0] <= 0).all()),
    )
