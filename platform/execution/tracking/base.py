"""What a tracker does, and what it is given of a trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts

__all__ = ["TrackedTrial", "Tracker"]


@dataclass(frozen=True)
class TrackedTrial:
    """One trial, for those who have never heard of it.

    Attributes:
        name: readable, such as `tuned masked_diffusion #3`.
        stratum: the scientific settings that it belongs to, as a label.
        facts: its configuration, sizes and provenance.
    """

    trial_id: str
    name: str
    stratum: str
    facts: TrialFacts


class Tracker(ABC):
    """One place that is told. Calls come from one thread, trial by trial in the order of their rows."""

    @abstractmethod
    def rows(self, trial: TrackedTrial, rows: Sequence[Evaluation]) -> None:
        """Evaluations that have not been told; the first call for a trial may come in any attempt."""

    @abstractmethod
    def end(self, trial: TrackedTrial, end: TrialEnd) -> None:
        """The trial has ended."""

    @abstractmethod
    def leave(self, trial_id: str) -> None:
        """The trial waits; let go of what is open for it."""

    @abstractmethod
    def publish(self, report: Path) -> None:
        """The study has an answer: its report."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more will come in this attempt."""
