"""Successive halving of a set: a rung is decided once every live trial of the cohort waits there or has ended.

So decisions are a function of the trials' curves alone, not of who came first, how many workers there are or how
often the study was interrupted. Of n configurations ceil(n / eta^(k+1)) go on at rung k; those that ended by themselves
take no place from those that wait. A configuration that fails on its way to the next rung gives its place to the
next best one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossover.platform.search.rungs import num_useful_rungs, rung_epochs
from crossover.platform.search.schedulers.base import RungDecision, Scheduler, register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort, Configuration, Key

__all__ = ["CohortHalving", "Group", "SetScheduler"]


@dataclass(frozen=True)
class Group:
    """Configurations that are ranked together.

    Args:
        configurations: those that take part, whatever has become of them.
        rungs: epochs of their rungs.
        earlier: cohorts of the same stratum that were decided before.
    """

    configurations: Sequence[Configuration]
    rungs: Sequence[float]
    earlier: Sequence[Cohort] = ()

    def at(self, rung: int) -> list[Configuration]:
        """Those that wait at a rung, the best first."""
        waiting = [c for c in self.configurations if c.passed == rung and c.paused]
        return sorted(waiting, key=lambda c: c.rank(rung))

    def beyond(self, rung: int) -> list[Configuration]:
        """Those that went past a rung, without those that failed before the next one."""
        gone = (c for c in self.configurations if c.passed > rung)
        return [c for c in gone if not (c.failed and all(len(m.reached) <= rung + 1 for m in c.members))]


class SetScheduler(Scheduler):
    """Decides a cohort as a set. A rule says whom it chooses at a rung; the rest waits."""

    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        """Nothing before every trial has come to its rung; then the lowest rung at which anybody is chosen."""
        if not cohort.is_settled:
            return []
        return [decision for group in self.groups(cohort) for decision in self.decide_group(group)]

    def groups(self, cohort: Cohort) -> Sequence[Group]:
        """Who is ranked against whom; all by default."""
        return [Group(cohort.configurations, self.rungs(cohort, 0), cohort.earlier)]

    @abstractmethod
    def choose(self, group: Group, rung: int, waiting: Sequence[Configuration]) -> Mapping[Key, str]:
        """Which of the waiting configurations go on from a rung, each with the reason.

        Args:
            group: all that are ranked together.
            rung: the rung, from 0.
            waiting: those that wait there, the best first.
        """

    @abstractmethod
    def refusal(self, group: Group, rung: int) -> str:
        """Why those that are not chosen stay."""

    def decide_group(self, group: Group) -> list[RungDecision]:
        """Who goes on in one group, from the lowest rung where anybody does, and who has come to a rung and waits."""
        decisions: list[RungDecision] = []
        for rung in range(len(group.rungs)):
            waiting = group.at(rung)
            chosen = self.choose(group, rung, waiting) if waiting else {}
            refusal = self.refusal(group, rung) if len(chosen) < len(waiting) else ""
            for place, configuration in enumerate(waiting, start=1):
                reason = chosen.get(configuration.key)
                for member in configuration.paused:
                    if reason is not None:
                        decisions.append(RungDecision(member.trial_id, rung, "promote", reason))
                    elif member.is_undecided:
                        decisions.append(RungDecision(member.trial_id, rung, "pause", f"{refusal}; place {place}"))
            if chosen:
                break
        return decisions


@register_scheduler("cohort_halving")
class CohortHalving(SetScheduler):
    """The best 1/eta of a cohort go on."""

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """As many as can decide anything: after them one configuration is left."""
        eta = self.settings.eta
        return rung_epochs(cohort.horizon, eta, self.settings.first_epoch, num_useful_rungs(cohort.size, eta))

    def choose(self, group: Group, rung: int, waiting: Sequence[Configuration]) -> Mapping[Key, str]:
        """The best, as far as there are places."""
        free = max(0, self.places(group, rung) - len(group.beyond(rung)))
        return {c.key: self.promotion(group, rung, place, c) for place, c in enumerate(waiting[:free], start=1)}

    def places(self, group: Group, rung: int) -> int:
        """How many configurations go past a rung."""
        per_place: int = self.settings.eta ** (rung + 1)
        return math.ceil(len(group.configurations) / per_place)

    def promotion(self, group: Group, rung: int, place: int, configuration: Configuration) -> str:
        """Why a configuration goes on."""
        words = f"best so far {configuration.value_at(rung):.4f} bits/byte"
        return f"{self._where(group, rung)}, place {place} of those that wait: {words}"

    def refusal(self, group: Group, rung: int) -> str:
        """They are not among the best."""
        return self._where(group, rung)

    def _where(self, group: Group, rung: int) -> str:
        number, places = len(group.configurations), self.places(group, rung)
        return f"rung {rung + 1} (epoch {group.rungs[rung]:.3g}): {places} of {number} configurations go on"
