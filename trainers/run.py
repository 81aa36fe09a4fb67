"""`Run`: what the training loop asks of the place where it runs.

Alone, in a Tune actor or in a Ray Train worker, the loop is the same; the record is the trial's own in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crossover.trainers.rows import Evaluation, StopReason
from crossover.trainers.storage import PublishedRecord

__all__ = ["AloneRun", "Progress", "Run", "StopRequest"]


@dataclass(frozen=True)
class StopRequest:
    """Somebody outside the trial wants it to end: `interrupted` goes on later, anything else is final."""

    reason: StopReason
    evidence: str


@dataclass(frozen=True)
class Progress:
    """What a poll tells: for displays and budgets, never for decisions about a trial's quality.

    Args:
        flops: of training and evaluation so far.
        ending_flops: what evaluation and test would add if the trial were asked to end now.
    """

    trial_id: str
    step: int
    num_steps: int
    epoch: float
    tokens_per_second: float | None
    activity: str  # "training", "validating", "testing"
    flops: float = 0.0
    ending_flops: float = 0.0


class Run(Protocol):
    """The place where a trial runs."""

    @property
    def directory(self) -> Path:
        """The trial's folder: <storage>/<study>/trials/<identity>."""

    @property
    def until_tokens(self) -> int | None:
        """Where this leg ends with a checkpoint though the trial does not; None: the trial's end."""

    @property
    def published(self) -> PublishedRecord | None:
        """The record in an object store, of which `directory` is this machine's copy; None: that is the record."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation was made; it is committed within `checkpoint.min_interval_seconds`, and before the leg ends."""

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """Asked at every evaluation and poll."""


@dataclass
class AloneRun:
    """A run without a study: nobody asks it to stop."""

    directory: Path
    until_tokens: int | None = None
    published: PublishedRecord | None = None

    def evaluated(self, evaluation: Evaluation) -> None:
        """Nothing to do: the record has it."""

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """Nobody asks."""
        return None
