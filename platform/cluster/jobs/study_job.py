"""A job of Ray's that runs a study: which study it is stands in the job's metadata, and so on the cluster itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["StudyJob", "metadata_of", "study_job"]

_STUDY, _FOLDER, _NUMBER, _VERSION = "crossover_study", "crossover_folder", "crossover_number", "crossover_version"
_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_EXITS = {
    2: "the study was refused: the end of its log says what to set",
    3: "no trial has a usable result: crossover status on its folder says why each of them ended",
    130: "it was interrupted; submitted again, it goes on",
}


@dataclass(frozen=True)
class StudyJob:
    """One job.

    Args:
        job_id: Ray's submission id.
        study: its study's name.
        folder: of the study, as the cluster sees it.
        number: how often this study was submitted to this cluster, from 1.
        version: of Crossover, where it was submitted.
        status: Ray's word.
        message: Ray's.
        exit_code: of the driver; None: it has not ended, or Ray does not know.
        started_ms: since 1970; None: not yet.
        ended_ms: the same.
    """

    job_id: str
    study: str
    folder: str
    number: int
    version: str
    status: str
    message: str = ""
    exit_code: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, whichever way."""
        return self.status in _OVER

    @property
    def means(self) -> str:
        """What its status says of the study."""
        if self.status == "PENDING":
            return "the cluster makes it ready: its files are unpacked on the head"
        if self.status == "RUNNING":
            return "the driver runs"
        if self.status == "SUCCEEDED":
            return "the study has ended, and has its report"
        if self.status == "STOPPED":
            return "it was stopped; submitted again, it goes on from its checkpoints"
        if self.exit_code in _EXITS:
            return _EXITS[self.exit_code]
        if self.exit_code is None:
            return f"the cluster lost the driver ({self._first_line}); submitted again, it goes on from its checkpoints"
        return f"the driver failed with exit code {self.exit_code}: its log says why; submitted again, it goes on"

    @property
    def _first_line(self) -> str:
        return (self.message.strip().splitlines() or ["it does not say why"])[0].rstrip(".")

    def as_json(self) -> dict[str, Any]:
        """For programs; times in ISO 8601, UTC."""
        known = {name: value for name, value in asdict(self).items() if not name.endswith("_ms")}
        times = {"started": _time(self.started_ms), "ended": _time(self.ended_ms)}
        return {**known, **times, "is_over": self.is_over, "means": self.means}


def metadata_of(study: str, folder: str, number: int, version: str) -> dict[str, str]:
    """What a job of a study carries."""
    return {_STUDY: study, _FOLDER: folder, _NUMBER: str(number), _VERSION: version}


def study_job(details: Any) -> StudyJob | None:
    """A job as Ray's client describes it; None: it runs no study."""
    told = details.metadata or {}
    if _STUDY not in told or not details.submission_id:
        return None
    number = told.get(_NUMBER, "")
    return StudyJob(
        job_id=details.submission_id,
        study=told[_STUDY],
        folder=told.get(_FOLDER, ""),
        number=int(number) if number.isdecimal() else 0,
        version=told.get(_VERSION, ""),
        status=str(getattr(details.status, "value", details.status)),
        message=details.message or "",
        exit_code=details.driver_exit_code,
        started_ms=details.start_time or None,
        ended_ms=details.end_time or None,
    )


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat("T", "seconds")
