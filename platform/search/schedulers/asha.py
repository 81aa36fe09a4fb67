"""Ray's ASHA (`ray.tune.schedulers.AsyncHyperBandScheduler`, one bracket), for comparison.

It only ever stops, by arrival, and over the whole study: a trial is stopped at a rung where its value is worse than the
best 1/eta of those that came there before it, whatever its stratum. So an objective that starts slower loses all its
trials to one that starts faster. Repeats stand for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from crossover.platform.search.rungs import rung_epochs
from crossover.platform.search.schedulers.base import RungDecision, Scheduler, register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort, Standing

__all__ = ["RayAsha"]


@register_scheduler("asha")
class RayAsha(Scheduler):
    """Its rule, through our interface: a leg ends at each rung, and goes on unless the trial is stopped there."""

    synchronous: ClassVar[bool] = False
    scope: ClassVar[Literal["stratum", "study"]] = "study"

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """The whole grid."""
        return rung_epochs(cohort.horizon, self.settings.eta, self.settings.first_epoch)

    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        """Newcomers one after another, each against those that came to its rung before."""
        undecided = cohort.undecided
        earlier = _Recorded(cohort, {standing.trial_id for standing in undecided})
        return [self._decide(standing, earlier) for standing in undecided]

    def _decide(self, standing: Standing, earlier: _Recorded) -> RungDecision:
        rung, value = standing.passed, standing.value_at(standing.passed)
        cut = self._cut(earlier.at(rung))
        earlier.add(rung, value)
        words = f"rung {rung + 1}: {_text(value)} bits/byte, cut {_text(cut)} over the whole study"
        stops = cut is not None and value is not None and value > cut
        return RungDecision(standing.trial_id, rung, "stop" if stops else "continue", words)

    def _cut(self, values: Sequence[float]) -> float | None:
        return float(np.percentile(values, 100 / self.settings.eta)) if values else None


class _Recorded:
    """Values of the trials that came to each rung and were decided there."""

    def __init__(self, cohort: Cohort, without: set[str]) -> None:
        self._cohort = cohort
        self._without = without
        self._values: dict[int, list[float]] = {}

    def at(self, rung: int) -> list[float]:
        if rung not in self._values:
            self._values[rung] = self._cohort.trial_values(rung, self._without)
        return self._values[rung]

    def add(self, rung: int, value: float | None) -> None:
        if value is not None:
            self.at(rung).append(value)


def _text(value: float | None) -> str:
    return "no" if value is None else f"{value:.4f}"
