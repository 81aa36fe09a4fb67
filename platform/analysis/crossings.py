"""Where masked diffusion goes below autoregressive and stays there, with what the data leave open.

Curves are bits per byte on validation, interpolated in log epochs. A crossing is right-censored: within what was
measured there may be none, and a draw without one counts as beyond the range, in quantiles too.

Draws (1,000, one matrix product a seed): documents are resampled with replacement, the same for both objectives and all
seeds; seeds enter by a Gaussian multiplier scaled by Student's chi, the same for both objectives, so that at any one
epoch the interval is the t interval over seeds. (Resampling three seeds with replacement would give two thirds of
the variance and thin tails.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.losses import LossCurve

__all__ = ["Crossing", "Quantiles", "find_crossings", "last_descent", "quantiles"]

Floats = NDArray[np.float64]
Against = Literal["equal_epochs", "envelope"]

# A trial that overfits was rising when it was stopped, so its last value bounds the rest of its curve from below. Its
# best so far stays what it is, and so does the best of a trial that had reached a plateau.
_CARRIED: dict[Against, frozenset[str]] = {
    "equal_epochs": frozenset({"overfit"}),
    "envelope": frozenset({"overfit", "plateau"}),
}


@dataclass(frozen=True)
class Quantiles:
    """A censored quantity: None is beyond the range that was measured.

    Args:
        estimate: from all data as they are.
        median: of the draws.
        low: 2.5 % of the draws.
        high: 97.5 % of the draws.
    """

    estimate: float | None
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Crossing:
    """Where the second objective goes below the first and stays there.

    Args:
        against: equal_epochs, the first one's curve; or envelope, its best so far.
        first_epoch: start of the range in which both were measured.
        last_epoch: end of the range, the first one carried forward where it was stopped while it overfitted.
        epochs: the crossing in epochs.
        tokens: in training tokens.
        flops: in training FLOPs of the second objective.
        probability_none: share of the draws that have none within the range.
        carried_from_epoch: from here on at least one seed of the first objective is carried forward; None: nowhere.
        carried_forward: the crossing rests on it, so it comes at the latest there (equal_epochs).
        gap: second less first at the end of the range, bits per byte; never None.
    """

    against: Against
    first_epoch: float
    last_epoch: float
    epochs: Quantiles
    tokens: Quantiles
    flops: Quantiles
    probability_none: float
    carried_from_epoch: float | None
    carried_forward: bool
    gap: Quantiles


def find_crossings(
    first: Sequence[LossCurve], second: Sequence[LossCurve], *, num_draws: int = 1000, seed: int = 0
) -> dict[Against, Crossing]:
    """Both crossings of two objectives; one that has no common range is left out.

    Args:
        first: the one to be crossed (autoregressive), a curve a seed.
        second: the one that crosses (masked diffusion), the same seeds in the same order, on the same windows.
        num_draws: draws of documents and seeds.
        seed: of the draws.
    """
    draws = _Draws.make(len(first), first[0].losses.bytes_D, num_draws, np.random.default_rng(seed))
    found = (_crossing(against, first, second, draws) for against in _CARRIED)
    return {crossing.against: crossing for crossing in found if crossing is not None}


@dataclass(frozen=True)
class _Draws:
    """Row 0 is the data as they are.

    Args:
        documents_BD: weight of each document, divided by the draw's bytes: nats become bits per byte.
        seeds_BS: weight of each seed; rows sum to 1.
    """

    documents_BD: Floats
    seeds_BS: Floats

    @classmethod
    def make(cls, num_seeds: int, bytes_D: Floats, num_draws: int, generator: np.random.Generator) -> _Draws:
        num_documents = len(bytes_D)
        counts_BD = generator.multinomial(num_documents, np.full(num_documents, 1 / num_documents), num_draws)
        counts_BD = np.vstack([np.ones((1, num_documents)), counts_BD]).astype(np.float64)
        seeds_BS = np.full((num_draws + 1, num_seeds), 1 / num_seeds)
        if num_seeds > 1:
            normal_BS = generator.standard_normal((num_draws, num_seeds))
            normal_BS -= normal_BS.mean(axis=1, keepdims=True)
            spread_B = np.sqrt((num_seeds - 1) / generator.chisquare(num_seeds - 1, num_draws))
            seeds_BS[1:] += normal_BS * spread_B[:, None] / np.sqrt(num_seeds * (num_seeds - 1))
        return cls(counts_BD / (counts_BD @ bytes_D * np.log(2))[:, None], seeds_BS)

    def mean_curve(self, curves: Sequence[LossCurve], log_epochs_G: Floats, *, best_so_far: bool) -> Floats:
        """Mean over seeds on a grid, [B, G]: linear in log epochs, the last value carried on beyond the last epoch."""
        mean_BG = np.zeros((len(self.seeds_BS), len(log_epochs_G)))
        for curve, weight_B in zip(curves, self.seeds_BS.T, strict=True):
            bits_BE = self.documents_BD @ curve.losses.nats_DE
            if best_so_far:
                bits_BE = np.minimum.accumulate(bits_BE, axis=1)
            mean_BG += weight_B[:, None] * (bits_BE @ _interpolation(np.log(curve.epochs_E), log_epochs_G))
        return mean_BG


def _interpolation(log_epochs_E: Floats, log_epochs_G: Floats) -> Floats:
    """Weights [E, G] of linear interpolation, constant outside."""
    return np.stack([np.interp(log_epochs_G, log_epochs_E, unit) for unit in np.eye(len(log_epochs_E))])


def _crossing(
    against: Against, first: Sequence[LossCurve], second: Sequence[LossCurve], draws: _Draws
) -> Crossing | None:
    epochs_G = _grid(against, first, second)
    if len(epochs_G) < 2:
        return None
    log_epochs_G = np.log(epochs_G)
    gap_BG = draws.mean_curve(second, log_epochs_G, best_so_far=False)
    gap_BG -= draws.mean_curve(first, log_epochs_G, best_so_far=against == "envelope")
    epochs_B = np.exp(last_descent(gap_BG, log_epochs_G))
    ends = [curve.epochs_E[-1] for curve in first]
    last_epoch = float(epochs_G[-1])
    epochs = quantiles(epochs_B)
    carried_from = float(min(ends)) if min(ends) < last_epoch * (1 - 1e-9) else None
    return Crossing(
        against=against,
        first_epoch=float(epochs_G[0]),
        last_epoch=last_epoch,
        epochs=epochs,
        tokens=quantiles(_along(second, "tokens_E", epochs_B)),
        flops=quantiles(_along(second, "flops_E", epochs_B)),
        probability_none=float(np.isinf(epochs_B[1:]).mean()),
        carried_from_epoch=carried_from,
        carried_forward=against == "equal_epochs"
        and carried_from is not None
        and epochs.estimate is not None
        and epochs.estimate > carried_from,
        gap=quantiles(gap_BG[:, -1]),
    )


def _grid(against: Against, first: Sequence[LossCurve], second: Sequence[LossCurve]) -> Floats:
    """Epochs of all evaluations in the range that both objectives cover, its end included."""
    start = max(curve.epochs_E[0] for curve in (*first, *second))
    ending = [*second, *(curve for curve in first if curve.stop_reason not in _CARRIED[against])]
    end = min(curve.epochs_E[-1] for curve in ending)
    epochs = np.unique(np.concatenate([*(curve.epochs_E for curve in (*first, *second)), [end]]))
    grid: Floats = epochs[(epochs >= start) & (epochs <= end)]
    return grid


def last_descent(gap_BG: Floats, log_epochs_G: Floats) -> Floats:
    """Where each draw's gap goes below 0 for good; inf if it ends above, the grid's start if it is never above."""
    above_BG = gap_BG > 0
    last_B = above_BG.shape[1] - 1 - np.argmax(above_BG[:, ::-1], axis=1)
    never_B = ~above_BG.any(axis=1)
    before_B = np.clip(last_B, 0, above_BG.shape[1] - 2)
    rows = np.arange(len(gap_BG))
    from_B, to_B = gap_BG[rows, before_B], gap_BG[rows, before_B + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share_B = from_B / (from_B - to_B)
    place_B = log_epochs_G[before_B] + share_B * (log_epochs_G[before_B + 1] - log_epochs_G[before_B])
    place_B = np.where(above_BG[:, -1], np.inf, place_B)
    return np.where(never_B, log_epochs_G[0], place_B)


def _along(curves: Sequence[LossCurve], name: Literal["tokens_E", "flops_E"], epochs_B: Floats) -> Floats:
    """Mean over seeds of what was spent at given epochs; inf stays inf."""
    spent_B = np.mean([np.interp(epochs_B, curve.epochs_E, getattr(curve, name)) for curve in curves], axis=0)
    return np.where(np.isinf(epochs_B), np.inf, spent_B)


def quantiles(values_B: Floats, tail: float = 0.025) -> Quantiles:
    """Estimate (the first), and of the draws after it the median and an interval with `tail` of them beyond each end.

    Order statistics, so that a quantile is never an average with infinity.
    """
    median, low, high = np.quantile(values_B[1:], [0.5, tail, 1 - tail], method="inverted_cdf")
    return Quantiles(*(float(v) if np.isfinite(v) else None for v in (values_B[0], median, low, high)))
