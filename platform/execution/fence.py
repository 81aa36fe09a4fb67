"""Keeps orphans from writing: workers of a dead driver, on machines that have not noticed yet.

Every attempt of a driver has a number and a file of decisions, on the study's own storage. Who works for one attempt
looks, before it asks or tells anything, whether a later one has begun: then the trial is somebody else's, and it leaves
without a checkpoint. Ray ends such workers where its head lives; where the head is lost they live on for a minute, and
a new cluster goes on with the same storage meanwhile. A leg of a later attempt waits until they have let go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from crossover.platform.execution.decisions import is_superseded
from crossover.trainers.record import RecordPaths
from crossover.trainers.record_start import lock_record

__all__ = ["SupersededError", "fence_of", "outlast_orphans"]

_ORPHAN_SECONDS = 180.0  # Ray's own machines give up after 60 s without their head


class SupersededError(Exception):
    """A later attempt has the study."""


def fence_of(study_dir: Path, attempt: int) -> Callable[[], None]:
    """What a worker of an attempt calls before it asks or tells anything; it raises `SupersededError`."""

    def check() -> None:
        if is_superseded(study_dir, attempt):
            raise SupersededError(f"attempt {attempt} of {study_dir} is over: a later one goes on with its trials")

    return check


def outlast_orphans(trial_dir: Path, attempt: int, seconds: float = _ORPHAN_SECONDS) -> None:
    """Waits until nobody writes a trial's record any more. In a first attempt there is nobody to wait for.

    Raises:
        RecordError: somebody still writes it after so long.
    """
    if attempt > 1:
        os.close(lock_record(RecordPaths(trial_dir), seconds))
