"""What a scheduler is: where a trial's legs end, and who goes on from there.

A trial runs in legs, to its next rung or to its end. When legs have ended, the cohort is decided, and the planner
carries the decisions out: going on is a new leg, so nothing that runs is interrupted by force. A scheduler keeps
nothing between two calls: what was decided before stands in the cohort.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from crossover.platform.search.schedulers.cohort import Cohort
from crossover.trainers.errors import ConfigError

__all__ = [
    "RungDecision",
    "Scheduler",
    "SchedulerSettings",
    "get_scheduler",
    "register_scheduler",
    "scheduler_names",
]


@dataclass(frozen=True)
class RungDecision:
    """What becomes of one trial at a rung, and why.

    `promote` and `continue` give it its next leg, `keep` too, but after everything else; `pause` leaves it there (at
    the end of its cohort it is pruned), `stop` ends it now as pruned.
    """

    trial_id: str
    rung: int
    action: Literal["continue", "pause", "stop", "promote", "keep"]
    reason: str


@dataclass(frozen=True)
class SchedulerSettings:
    """What a study sets of its scheduler.

    Args:
        eta: one in so many goes on, and ratio of the epochs of two rungs in a row.
        first_epoch: epochs of the first rung; None: counted down from the last epoch.
        patience_fraction: share of a cohort's FLOPs that trials kept below the cut may use.
    """

    eta: int = 3
    first_epoch: float | None = None
    patience_fraction: float = 0.7


class Scheduler(ABC):
    """Decides which trials of a cohort go on.

    Attributes:
        synchronous: decides a cohort as a set: it is asked only when every trial waits at a rung or has ended, so the
            order of arrival changes nothing, and configurations are drawn cohort by cohort. Else it is asked whenever a
            leg has ended.
        scope: whether a cohort is (part of) a stratum, or the whole study.
        has_rungs: whether any leg ends before its trial.
    """

    synchronous: ClassVar[bool] = True
    scope: ClassVar[Literal["stratum", "study"]] = "stratum"
    has_rungs: ClassVar[bool] = True

    def __init__(self, settings: SchedulerSettings | None = None) -> None:
        self.settings = settings or SchedulerSettings()

    @abstractmethod
    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """Epochs at which legs of a configuration end, increasing; after the last one a leg ends with its trial.

        Args:
            cohort: where it belongs.
            position: of the configuration in the cohort, from 0.
        """

    @abstractmethod
    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        """Who of the waiting trials goes on; a trial without a decision stays where it is.

        A cohort in which nothing moves and nobody goes on is over: the planner prunes what still waits in it.
        """


_SCHEDULERS: dict[str, Callable[[SchedulerSettings], Scheduler]] = {}


def register_scheduler(name: str) -> Callable[[type[Scheduler]], type[Scheduler]]:
    """Makes a scheduler known by name."""

    def register(scheduler: type[Scheduler]) -> type[Scheduler]:
        _SCHEDULERS[name] = scheduler
        return scheduler

    return register


def scheduler_names() -> tuple[str, ...]:
    """Names of all schedulers."""
    return tuple(sorted(_SCHEDULERS))


def get_scheduler(name: str, settings: SchedulerSettings | None = None) -> Scheduler:
    """The scheduler of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in _SCHEDULERS:
        raise ConfigError(f"search.scheduler = {name} is unknown: set one of {', '.join(scheduler_names())}")
    return _SCHEDULERS[name](settings or SchedulerSettings())
