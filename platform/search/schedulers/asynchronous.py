"""Asynchronous successive halving by promotion (ASHA, arXiv 1810.05934): no trial waits for the slowest one.

Whoever is among the best 1/eta of those that came to a rung so far goes on, and a later one may still be promoted in
its stead too. What is decided depends on the order of arrival: another number of workers gives other decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from crossover.platform.search.rungs import num_useful_rungs, rung_epochs
from crossover.platform.search.schedulers.base import RungDecision, Scheduler, register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort

__all__ = ["AsynchronousHalving"]


@register_scheduler("asynchronous_halving")
class AsynchronousHalving(Scheduler):
    """Cohort halving without its promise: a study asks for it by `asynchronous: true`."""

    synchronous: ClassVar[bool] = False

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """The rungs of cohort halving."""
        eta = self.settings.eta
        return rung_epochs(cohort.horizon, eta, self.settings.first_epoch, num_useful_rungs(cohort.size, eta))

    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        """Promotes whoever belongs to the best 1/eta at its rung by now, and says of newcomers that they wait."""
        rungs = self.rungs(cohort, 0)
        promoted = list(self._promotions(cohort, rungs))
        gone = {decision.trial_id for decision in promoted}
        waits = [
            RungDecision(s.trial_id, s.passed, "pause", f"not among the best 1/{self.settings.eta} {_where(s.passed)}")
            for s in cohort.undecided
            if s.trial_id not in gone
        ]
        return [*promoted, *waits]

    def _promotions(self, cohort: Cohort, rungs: Sequence[float]) -> Iterator[RungDecision]:
        for rung in range(len(rungs)):
            ranking, waiting = cohort.ranking(rung), cohort.waiting_at(rung)
            places = len(ranking) // self.settings.eta
            for place, (value, _, key) in enumerate(ranking[:places], start=1):
                if key in waiting:
                    words = f"place {place} of {len(ranking)} {_where(rung)}: best so far {value:.4f} bits/byte"
                    for member in cohort.configuration(key).paused:
                        yield RungDecision(member.trial_id, rung, "promote", words)


def _where(rung: int) -> str:
    return f"at rung {rung + 1} so far"
