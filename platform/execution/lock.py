"""One driver a study: a kernel lock on `<study>/LOCK`, which a kill -9 frees.

`flock` belongs to the open file, so a forked child would keep it: the descriptor is closed in every fork, and closed on
exec by Python itself. It does not hold on object stores, nor on every network file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from crossover.trainers.errors import CrossoverError

__all__ = ["StudyLock", "lock_holder"]

_TRIES, _PAUSE_SECONDS = 5, 0.05  # `lock_holder` has the lock for an instant


class StudyLock:
    """Held while a driver runs the study of a folder."""

    def __init__(self, study_dir: Path) -> None:
        self._path = study_dir / "LOCK"
        self._descriptor: int | None = None
        os.register_at_fork(after_in_child=self._forget)

    def __enter__(self) -> Self:
        """Takes the lock.

        Raises:
            CrossoverError: another driver has it; the message names it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _taken(descriptor):
            os.close(descriptor)
            raise CrossoverError(
                f"{self._path.parent} is being run by {_described(self._path)}: wait for it, or interrupt it there"
            )
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives it back, also from a child that was just forked and has not closed it yet."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._forget()

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _described(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def lock_holder(study_dir: Path) -> str | None:
    """Who runs the study now, in words; None: nobody, as far as this machine can see."""
    path = study_dir / "LOCK"
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _described(path)
    return None
