"""No halving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from crossover.platform.search.schedulers.base import RungDecision, Scheduler, register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort

__all__ = ["NoScheduler"]


@register_scheduler("none")
class NoScheduler(Scheduler):
    """Every trial runs to its own end: only its curve and the budget stop it."""

    synchronous: ClassVar[bool] = False
    has_rungs: ClassVar[bool] = False

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """There is none."""
        return ()

    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        """Whoever waits goes on: only a leg that another scheduler planned can."""
        reason = "no scheduler: every trial runs to its end"
        return [RungDecision(s.trial_id, len(s.reached) - 1, "continue", reason) for s in cohort.undecided]
