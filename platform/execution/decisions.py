"""What the driver decided, in the order in which it decided it: the half of a study's truth that trials do not own.

One JSONL file a driver attempt, never rewritten: a new attempt opens a new file, so a line torn by a kill is always the
last of its file, and a file is never written by two processes. Lines outlive the process at once, and the machine
before they have an effect: a suggestion, and what is decided at a rung, have none until a leg starts, and the end of
a leg or of a trial is in the trial's own record, so these wait for the next line's flush (4 ms where it was measured, a
fifth of a trivial leg).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crossover.trainers.durable import is_disk_full
from crossover.trainers.errors import CrossoverError, RecordError
from crossover.trainers.rows import StopReason

__all__ = [
    "AttemptStarted",
    "CohortDrawn",
    "Decision",
    "DecisionLog",
    "LegEnded",
    "LegStarted",
    "RungDecided",
    "StopRequested",
    "StratumStopped",
    "StudyFinished",
    "Suggested",
    "TrialClosed",
    "TrialDecided",
    "attempts",
    "is_superseded",
    "read_decisions",
]


def _now() -> datetime:
    return datetime.now(UTC)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    time: datetime = Field(default_factory=_now, description="UTC.")


class AttemptStarted(_Line):
    """A driver began to run the study, or to go on with it."""

    kind: Literal["attempt"] = "attempt"
    pid: int
    host: str
    versions: dict[str, str]
    resumed: bool


class Suggested(_Line):
    """A trial was made: a repeat of configuration `number` of its stratum."""

    kind: Literal["suggested"] = "suggested"
    trial_id: str
    number: int = Field(description="Number of the configuration within its stratum, from 0.")
    stratum: dict[str, Any]
    stratum_label: str
    settings: dict[str, Any] = Field(description="Nuisance settings by dotted path.")
    repeat: int
    config_hash: str
    purpose: Literal["search", "confirm"]


class LegStarted(_Line):
    """A trial was given a worker, from its newest checkpoint on."""

    kind: Literal["leg_started"] = "leg_started"
    trial_id: str
    leg: int = Field(description="Number of the leg within its trial, from 1.")


class LegEnded(_Line):
    """A leg gave its worker back."""

    kind: Literal["leg_ended"] = "leg_ended"
    trial_id: str
    leg: int
    status: Literal["ended", "paused", "interrupted", "failed"]
    error: str | None = None
    value: float | None = Field(default=None, description="Paused at a rung: best validation bits per byte so far.")
    flops: float = Field(default=0.0, description="Paused at a rung: FLOPs of training and evaluation so far.")


class CohortDrawn(_Line):
    """The configurations that were drawn last are a cohort: decided together, and started from here on."""

    kind: Literal["cohort"] = "cohort"
    stratum_label: str
    number: int = Field(description="Number of the cohort within its stratum, from 0.")
    first: int = Field(description="Number of its first configuration.")
    size: int = Field(description="Configurations in it.")


class TrialDecided(BaseModel):
    """What becomes of one trial that came to a rung, and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial_id: str
    rung: int = Field(description="From 0.")
    action: Literal["continue", "pause", "stop", "promote", "keep"]
    reason: str


class RungDecided(_Line):
    """What was decided in a cohort at one time: one line, for half of it would be another decision."""

    kind: Literal["rung"] = "rung"
    stratum_label: str = Field(description="Stratum of the cohort; empty where the whole study is one.")
    cohort: int
    decisions: tuple[TrialDecided, ...]


class TrialClosed(_Line):
    """A trial that waited was ended by the driver: pruned, out of budget, or given up."""

    kind: Literal["closed"] = "closed"
    trial_id: str
    reason: StopReason
    evidence: str


class StratumStopped(_Line):
    """A stratum has spent its share: its running trials are asked to end, what waits in it ends, nothing starts."""

    kind: Literal["stratum_stopped"] = "stratum_stopped"
    stratum_label: str
    reason: StopReason
    evidence: str


class StopRequested(_Line):
    """A trial, or every one that runs, was asked to end at its next poll."""

    kind: Literal["stop_requested"] = "stop_requested"
    trial_id: str | None = Field(description="None: all.")
    reason: StopReason
    evidence: str


class StudyFinished(_Line):
    """Nothing is left to run."""

    kind: Literal["finished"] = "finished"
    reason: str


Decision = Annotated[
    AttemptStarted
    | Suggested
    | CohortDrawn
    | LegStarted
    | LegEnded
    | RungDecided
    | TrialClosed
    | StratumStopped
    | StopRequested
    | StudyFinished,
    Field(discriminator="kind"),
]
_WITHOUT_EFFECT = (Suggested, CohortDrawn, LegEnded, RungDecided, TrialClosed)
_ADAPTER: TypeAdapter[Decision] = TypeAdapter(Decision)


def _folder(study_dir: Path) -> Path:
    return study_dir / "decisions"


def _file(study_dir: Path, attempt: int) -> Path:
    return _folder(study_dir) / f"{attempt:04d}.jsonl"


def _files(study_dir: Path) -> list[Path]:
    return sorted(_folder(study_dir).glob("[0-9][0-9][0-9][0-9].jsonl"))


Publish = Callable[[int, bytes, bool], None]
"""Takes up what was appended to the file of an attempt; True: it must be kept when this returns."""


class DecisionLog:
    """The file of one driver attempt, open for appending.

    Args:
        study_dir: the study's folder, or the driver's copy of one in an object store.
        publish: puts into the store what was appended to the copy.
    """

    def __init__(self, study_dir: Path, publish: Publish | None = None) -> None:
        self._publish = publish
        folder = _folder(study_dir)
        files = _files(study_dir)
        self.attempt = int(files[-1].stem) + 1 if files else 1
        self.path = _file(study_dir, self.attempt)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise CrossoverError(f"the decisions cannot be written at {self.path}: {error.strerror}") from error

    def append(self, line: Decision) -> None:
        """Writes one line, and waits until the disk, or the store, has it unless it has no effect of its own.

        Raises:
            CrossoverError: the disk or the store refuses it.
        """
        content = line.model_dump_json().encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not isinstance(line, _WITHOUT_EFFECT):
                os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)  # half a line would spoil the next one
            remedy = "make room, and run" if is_disk_full(error) else "run"
            raise CrossoverError(
                f"{self.path} cannot be written: {error.strerror}. What was decided stands: {remedy} the same command "
                "again"
            ) from error
        if self._publish is not None:
            self._publish(self.attempt, content, not isinstance(line, _WITHOUT_EFFECT))

    def close(self) -> None:
        """Flushes and closes the file."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
        if self._publish is not None:
            self._publish(self.attempt, b"", True)


def is_superseded(study_dir: Path, attempt: int) -> bool:
    """Whether a later attempt than this one has begun."""
    return _file(study_dir, attempt + 1).exists()


def attempts(study_dir: Path) -> list[list[Decision]]:
    """The decisions of each driver attempt, oldest first; a torn last line is left out.

    Raises:
        RecordError: a line that is not the last of its file cannot be read.
    """
    return [list(_read(path)) for path in _files(study_dir)]


def read_decisions(study_dir: Path) -> list[Decision]:
    """Every decision of a study, oldest first. A folder without decisions has none."""
    return [line for attempt in attempts(study_dir) for line in attempt]


def _read(path: Path) -> Iterator[Decision]:
    complete, _, _torn = path.read_bytes().rpartition(b"\n")
    for number, content in enumerate(complete.split(b"\n") if complete else (), start=1):
        try:
            yield _ADAPTER.validate_json(content)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise RecordError(
                f"{path}, line {number}, is no decision of this version: {reason}. Restore it from a copy, or give "
                "the study another name or another --storage to start anew"
            ) from None
