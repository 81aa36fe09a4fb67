"""The driver's decisions, folded into one line a trial: what was suggested, and how far its legs came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from crossover.platform.execution.decisions import (
    AttemptStarted,
    Decision,
    LegEnded,
    LegStarted,
    StudyFinished,
    Suggested,
    TrialClosed,
)

__all__ = ["Suggestion", "suggestions"]

_AFTER_LEG = {"ended": "done", "paused": "paused", "interrupted": "paused", "failed": "failed"}


@dataclass(frozen=True)
class Suggestion:
    """One suggested trial, its state as the driver saw it, and the error of its last leg if that failed."""

    made: Suggested
    status: str = "waiting"
    error: str | None = None

    @property
    def trial_id(self) -> str:
        """Identity of the trial, and name of its folder."""
        return self.made.trial_id

    @property
    def axes(self) -> dict[str, object]:
        """Every axis that is active in this trial, by its path; scientific ones first."""
        return {**self.made.stratum, **self.made.settings}


def suggestions(decisions: Iterable[Decision], *, driver_alive: bool) -> list[Suggestion]:
    """Fold decisions, oldest first, into suggestions in the order in which they were made.

    A leg that was started and never ended runs; it is paused if its driver is gone, which a later attempt, the end of
    the study or a free lock show.
    """
    found: dict[str, Suggestion] = {}
    for line in decisions:
        if isinstance(line, Suggested):
            found.setdefault(line.trial_id, Suggestion(line))
        elif isinstance(line, AttemptStarted | StudyFinished):
            found = {trial_id: _orphaned(known) for trial_id, known in found.items()}
        elif isinstance(line, LegStarted) and line.trial_id in found:
            found[line.trial_id] = replace(found[line.trial_id], status="running", error=None)
        elif isinstance(line, LegEnded) and line.trial_id in found:
            found[line.trial_id] = replace(found[line.trial_id], status=_AFTER_LEG[line.status], error=line.error)
        elif isinstance(line, TrialClosed) and line.trial_id in found:
            status = "failed" if line.reason == "failed" else "done"
            found[line.trial_id] = replace(found[line.trial_id], status=status)
    return list(found.values()) if driver_alive else [_orphaned(known) for known in found.values()]


def _orphaned(known: Suggestion) -> Suggestion:
    return replace(known, status="paused") if known.status == "running" else known
