"""Crossings of two fitted laws, of the optimum and of every bootstrap draw.

Envelope: the smallest C at which the best challenger over N with at least one epoch and at most C FLOPs lies below the
best baseline within C. Equal epochs: the same for one size, that of the challenger where the envelopes cross.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from crossover.platform.analysis.crossing.envelope import FittedFamily, best_over_sizes, loss_at
from crossover.platform.analysis.crossing.results import CrossingEntry, DataEfficiency, PowerLaw
from crossover.platform.analysis.crossing.roles import Pair
from crossover.platform.analysis.crossings import Quantiles, quantiles
from crossover.platform.analysis.scaling_laws.results import LawFit

__all__ = ["FittedPair"]

Floats = NDArray[np.float64]
Which = NDArray[np.intp] | slice
Gap = Callable[[Floats, Which], Floats]

_BEYOND = 10.0  # the range ends at so many times the most FLOPs, or epochs, of the table
_SIZES_BEYOND = 10.0  # sizes that are considered go so far beyond those of the table, either way
_UNIQUE_BEYOND = 1e3  # unique tokens that are considered for data efficiency, times U
_NUM_BUDGETS = 48
_NUM_WITHIN = 24
_BISECTIONS = 14
_LOG_2, _LOG_6 = float(np.log(2.0)), float(np.log(6.0))


@dataclass(frozen=True)
class FittedPair:
    """Two families of one fit.

    Args:
        fit: the law and its table.
        pair: who is crossed, and who crosses.
    """

    fit: LawFit
    pair: Pair

    def family(self, name: str) -> FittedFamily:
        """One family's parameters, the optimum first."""
        joint = self.fit.solution.problem.joint
        theta_BP = np.vstack([self.fit.solution.theta_P[None], self.fit.draws])[:, joint.places(name)]
        sizes = np.log(self.fit.table.params)
        reach = float(np.log(_SIZES_BEYOND))
        return FittedFamily(name, joint.law, theta_BP, (float(sizes.min()) - reach, float(sizes.max()) + reach))

    @cached_property
    def tail(self) -> float:
        """Share of the draws beyond each end of a 95 % interval: below 2.5 %, since draws scatter less than new data.

        The expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap" (2015),
        with n runs of the family that has fewest and the p parameters of its law: Phi(-sqrt(n / (n - p)) t).
        """
        table, joint = self.fit.table, self.fit.solution.problem.joint
        names = (self.pair.baseline, self.pair.challenger)
        num_runs = min(len(np.unique(table.clusters[table.family == name])) for name in names)
        degrees = max(num_runs - len(joint.places(self.pair.baseline)), 1)
        return float(ndtr(-math.sqrt(num_runs / degrees) * stdtrit(degrees, 0.975)))

    @property
    def budgets(self) -> list[float]:
        """Unique tokens that both families were measured with."""
        table = self.fit.table
        ours = (set(table.unique[table.family == name]) for name in (self.pair.baseline, self.pair.challenger))
        return sorted(float(u) for u in set.intersection(*ours))

    def crossings(self, unique_tokens: float) -> tuple[list[CrossingEntry], Floats]:
        """Both crossings with U unique tokens, and ln C of the envelope's in every draw (inf: none)."""
        first, second = self.family(self.pair.baseline), self.family(self.pair.challenger)
        log_unique = float(np.log(unique_tokens))
        low, high = self._range(log_unique)

        def gap(log_flops: Floats, which: Which) -> Floats:
            theirs, ours = (self._best_within(f.take(which), log_flops, log_unique) for f in (second, first))
            return theirs - ours

        log_flops_B, from_start = _first_descent(gap, low, high)
        shown = np.where(np.isfinite(log_flops_B), log_flops_B, high)[:, None]
        log_params_B = best_over_sizes(second, shown, log_unique).log_params[:, 0]
        envelope = self._entry("fitted_envelope", unique_tokens, log_flops_B, log_params_B, (low, high), from_start)
        size = log_params_B[0]
        epochs_high = float(np.log(self.fit.table.epochs.max() * _BEYOND))

        def gap_at_size(log_epochs: Floats, which: Which) -> Floats:
            tokens = log_epochs + log_unique
            theirs, ours = (
                loss_at(f.take(which), np.array(size), tokens, np.array(log_unique)) for f in (second, first)
            )
            return theirs - ours

        log_epochs_B, from_start = _first_descent(gap_at_size, 0.0, epochs_high)
        base = _LOG_6 + size + log_unique
        bounds = (base, base + epochs_high)
        sizes_B = np.full(len(log_epochs_B), size)
        equal = self._entry("fitted_equal_epochs", unique_tokens, base + log_epochs_B, sizes_B, bounds, from_start)
        return [envelope, equal], log_flops_B

    def power_law(self, log_flops_UB: Floats) -> PowerLaw | None:
        """C_crit(U) of three budgets or more; None where the estimate has no crossing at one of them."""
        budgets = self.budgets
        if len(budgets) < 3 or not np.isfinite(log_flops_UB[:, 0]).all():
            return None
        whole_B = np.asarray(np.isfinite(log_flops_UB).all(axis=0))
        log_unique = np.log(budgets)
        design = np.stack([np.ones(len(budgets)), log_unique], axis=1)
        (log_c, p), *_ = np.linalg.lstsq(design, log_flops_UB[:, whole_B], rcond=None)
        return PowerLaw(
            self._quantiles(np.exp(log_c)), self._quantiles(p), tuple(budgets), float((~whole_B[1:]).mean())
        )

    def data_efficiency(self, unique_tokens: float) -> DataEfficiency:
        """Unique tokens that the baseline needs for the challenger's best loss with the most FLOPs it was given."""
        table = self.fit.table
        rows = (table.family == self.pair.challenger) & (table.unique == unique_tokens)
        log_flops = np.log(np.array([table.flops[rows].max()]))
        first, second = self.family(self.pair.baseline), self.family(self.pair.challenger)
        target_B = best_over_sizes(second, log_flops, float(np.log(unique_tokens))).log_loss[:, 0]
        low = np.full((len(target_B), 1), np.log(unique_tokens / _UNIQUE_BEYOND))
        high = np.full((len(target_B), 1), np.log(unique_tokens * _UNIQUE_BEYOND))

        def enough(log_unique: Floats) -> NDArray[np.bool_]:
            best = best_over_sizes(first, log_flops, log_unique, least_epochs=0.0).log_loss
            return np.asarray(best <= target_B[:, None])

        reached_B = enough(high)[:, 0]
        for _ in range(2 * _BISECTIONS):
            middle = (low + high) / 2
            below = enough(middle)
            low, high = np.where(below, low, middle), np.where(below, middle, high)
        needed_B = np.where(reached_B, np.exp(high[:, 0]), np.inf)
        return DataEfficiency(
            unique_tokens,
            float(np.exp(log_flops[0])),
            float(np.exp(target_B[0])),
            self._quantiles(needed_B),
            self._quantiles(needed_B / unique_tokens),
        )

    def _best_within(self, family: FittedFamily, log_flops: Floats, log_unique: float) -> Floats:
        """ln of the best loss for at most C FLOPs; a law that rises may be better for fewer."""
        if not family.law.rises:
            return best_over_sizes(family, log_flops, log_unique).log_loss
        shape = (len(family.theta_BP), np.shape(log_flops)[-1])
        log_flops = np.broadcast_to(log_flops, shape)
        shares = np.linspace(0.0, 1.0, _NUM_WITHIN)
        low, _ = self._range(log_unique)
        within = low + (log_flops[..., None] - low) * shares
        best = best_over_sizes(family, within.reshape(shape[0], -1), log_unique).log_loss
        least: Floats = best.reshape(within.shape).min(axis=2)
        return least

    def _range(self, log_unique: float) -> tuple[float, float]:
        """From one epoch of the smallest size to ten times the most FLOPs of the table, ln C."""
        smallest = float(np.log(self.fit.table.params.min()))
        return _LOG_6 + smallest + log_unique, float(np.log(self.fit.table.flops.max() * _BEYOND))

    def _quantiles(self, values_B: Floats) -> Quantiles:
        return quantiles(values_B, self.tail)

    def _entry(
        self,
        kind: str,
        unique_tokens: float,
        log_flops_B: Floats,
        log_params_B: Floats,
        bounds: tuple[float, float],
        from_start: bool,
    ) -> CrossingEntry:
        log_tokens_B = log_flops_B - _LOG_6 - log_params_B
        log_epochs_B = log_tokens_B - np.log(unique_tokens)
        none_B = ~np.isfinite(log_flops_B)
        return CrossingEntry(
            unique_tokens=unique_tokens,
            kind=kind,  # type: ignore[arg-type]
            baseline=self.pair.baseline,
            challenger=self.pair.challenger,
            setting=self.pair.setting,
            flops=self._quantiles(np.exp(log_flops_B)),
            epochs=self._quantiles(np.exp(log_epochs_B)),
            tokens=self._quantiles(np.exp(log_tokens_B)),
            params=self._quantiles(np.exp(np.where(none_B, np.inf, log_params_B))),
            probability_none=float(none_B[1:].mean()),
            range_flops=(float(np.exp(bounds[0])), float(np.exp(bounds[1]))),
            extrapolated=self._is_extrapolated(unique_tokens, log_flops_B[0], log_params_B[0], log_epochs_B[0]),
            ahead_from_start=from_start,
        )

    def _is_extrapolated(self, unique_tokens: float, log_flops: float, log_params: float, log_epochs: float) -> bool:
        """Whether it lies beyond the FLOPs, or beyond twice the sizes or epochs, of one family with these tokens."""
        if not np.isfinite(log_flops):
            return False
        table = self.fit.table
        for name in (self.pair.baseline, self.pair.challenger):
            rows = (table.family == name) & (table.unique == unique_tokens)
            sizes, epochs = np.log(table.params[rows]), np.log(table.epochs[rows])
            if log_flops > np.log(table.flops[rows].max()) + 1e-9 or log_epochs > epochs.max() + _LOG_2:
                return True
            if not sizes.min() - _LOG_2 <= log_params <= sizes.max() + _LOG_2:
                return True
        return False


def _first_descent(gap: Gap, low: float, high: float) -> tuple[Floats, bool]:
    """Where each draw's gap first goes below 0, by bisection; inf: nowhere. Second: the optimum starts below."""
    grid = np.linspace(low, high, _NUM_BUDGETS)
    below_BC = gap(grid, slice(None)) < 0
    place_B = below_BC.argmax(axis=1)
    none_B = ~below_BC.any(axis=1)
    left, right = grid[np.maximum(place_B - 1, 0)], grid[place_B]
    active = np.flatnonzero(~none_B & (place_B > 0))
    for _ in range(_BISECTIONS if len(active) else 0):
        middle = (left[active] + right[active]) / 2
        below = gap(middle[:, None], active)[:, 0] < 0
        left[active] = np.where(below, left[active], middle)
        right[active] = np.where(below, middle, right[active])
    return np.where(none_B, np.inf, right), bool(below_BC[0, 0])
