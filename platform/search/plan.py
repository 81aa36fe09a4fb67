"""What the planner is given and what it answers: the words between it, the records and whoever starts legs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from crossover.platform.execution.decisions import Suggested
from crossover.platform.search.schedulers import CurvePoint, Horizon, Scheduler
from crossover.platform.search.searchers import Searcher
from crossover.search_spaces import Scalar
from crossover.trainers.rows import StopReason

__all__ = ["Finished", "Leg", "LegStatus", "Outcome", "Plan", "Results", "StratumPlan", "Wait"]

LegStatus = Literal["ended", "paused", "interrupted", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What a trial's record says of it.

    Args:
        ended: it has an end.
        value: best validation bits per byte so far; None where there is none, or none that is finite.
        flops: of training and evaluation so far.
        reason: why it ended.
        curve: its finite evaluations, oldest first.
    """

    ended: bool
    value: float | None
    flops: float = 0.0
    reason: StopReason | None = None
    curve: Sequence[CurvePoint] = ()


class Results(Protocol):
    """The trials' own records."""

    def outcome(self, trial_id: str) -> Outcome:
        """What is on disk now; a trial that has not started has nothing."""

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        """Writes the end of a trial that cannot or shall not write it itself."""


class StratumPlan(Protocol):
    """What is to be done in one stratum."""

    @property
    def label(self) -> str:
        """Unique among the strata."""

    @property
    def settings(self) -> Mapping[str, Scalar]:
        """Values of the scientific axes."""

    @property
    def num_configurations(self) -> int:
        """How many configurations are searched."""

    @property
    def cohort_size(self) -> int:
        """How many of them are drawn and decided together, where the scheduler decides sets."""

    @property
    def horizon(self) -> Horizon:
        """How far its trials can go."""

    @property
    def searcher(self) -> Searcher:
        """Suggests them."""

    def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
        """Trial id and configuration hash of a repeat."""

    def max_tokens(self, settings: Mapping[str, Scalar]) -> int:
        """Tokens that a trial with these settings would have seen in the end."""


@dataclass(frozen=True)
class Plan:
    """What a study asks of the planner."""

    strata: Sequence[StratumPlan]
    scheduler: Scheduler
    repeats: int
    final_repeats: int


@dataclass(frozen=True)
class Leg:
    """One trial, from its newest checkpoint to `until_tokens`, or to its end where that is None."""

    suggested: Suggested
    leg: int
    until_tokens: int | None

    @property
    def trial_id(self) -> str:
        """Identity of the trial."""
        return self.suggested.trial_id


@dataclass(frozen=True)
class Wait:
    """Nothing to start until a leg ends."""


@dataclass(frozen=True)
class Finished:
    """Nothing is left to start, and nothing runs."""
