"""Who goes on at a rung: one method decides a cohort.

A trial runs in legs: to `until_tokens` of its rung, or to its end. When a leg has paused, its cohort is decided, and
the planner carries the decisions out: a promotion is a new leg, so nothing that runs is interrupted by force.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from crossover.trainers.errors import ConfigError

__all__ = ["NoScheduler", "RungDecision", "Scheduler", "Standing", "get_scheduler", "register_scheduler"]


@dataclass(frozen=True)
class Standing:
    """Where one trial of a cohort stands.

    Args:
        trial_id: identity of the trial.
        number: number of its configuration within the stratum; repeats share it and are decided on their mean.
        repeat: which repeat it is.
        rungs: legs that it has completed by pausing.
        value: best validation bits per byte so far; None where nothing is known.
        state: "waiting" for a worker or for its rung, "running", "paused" at its rung, or "ended".
    """

    trial_id: str
    number: int
    repeat: int
    rungs: int
    value: float | None
    state: Literal["waiting", "running", "paused", "ended"]


@dataclass(frozen=True)
class RungDecision:
    """What becomes of one trial, and why.

    `continue` and `promote` give a paused trial its next leg, `pause` leaves it where it is, `stop` ends it as pruned.
    """

    trial_id: str
    action: Literal["continue", "pause", "stop", "promote"]
    reason: str


class Scheduler(ABC):
    """Decides which trials of a cohort go on."""

    @abstractmethod
    def until_tokens(self, rungs: int) -> int | None:
        """Tokens at which the leg after `rungs` completed ones ends; None: at the end of the trial."""

    @abstractmethod
    def decide(self, cohort: Sequence[Standing]) -> Sequence[RungDecision]:
        """Asked whenever a trial of the cohort reached a rung or ended. Trials without a decision stay as they are."""


_SCHEDULERS: dict[str, Callable[[], Scheduler]] = {}


def register_scheduler(name: str) -> Callable[[type[Scheduler]], type[Scheduler]]:
    """Makes a scheduler known by name."""

    def register(scheduler: type[Scheduler]) -> type[Scheduler]:
        _SCHEDULERS[name] = scheduler
        return scheduler

    return register


def get_scheduler(name: str) -> Scheduler:
    """The scheduler of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in _SCHEDULERS:
        raise ConfigError(f"search.scheduler = {name} is unknown: set one of {', '.join(sorted(_SCHEDULERS))}")
    return _SCHEDULERS[name]()


@register_scheduler("none")
class NoScheduler(Scheduler):
    """Every trial runs to its own end: there are no rungs, only its curve and the budget stop it."""

    def until_tokens(self, rungs: int) -> int | None:
        """There is no rung."""
        return None

    def decide(self, cohort: Sequence[Standing]) -> Sequence[RungDecision]:
        """Whoever paused goes on: only a leg that an earlier scheduler planned can have."""
        return [
            RungDecision(standing.trial_id, "continue", "no scheduler: every trial runs to its end")
            for standing in cohort
            if standing.state == "paused"
        ]
