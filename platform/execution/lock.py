"""One driver a study: a kernel lock on `<study>/LOCK`, which a kill -9 frees, and a lease for other machines.

`flock` belongs to the open file, so a forked child would keep it: the descriptor is closed in every fork, and closed on
exec by Python itself. Not every network file system tells other machines of it. So the holder also renews the file's
time, and a driver on another machine that finds the lock free but the name of a holder in it watches for as long as a
lease: a time that changes belongs to a driver that lives, one that stands still to a dead one. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from crossover.trainers.errors import CrossoverError

__all__ = ["LEASE_SECONDS", "StudyLock", "lock_holder"]

LEASE_SECONDS = 30.0
"""After so long without a sign of life a driver on another machine counts as dead."""

_log = logging.getLogger(__name__)
_RENEWALS = 6  # in the time of a lease
_WATCH_SECONDS = 0.2
_TRIES, _PAUSE_SECONDS = 5, 0.05  # `lock_holder` has the lock for an instant


class StudyLock:
    """Held while a driver runs the study of a folder."""

    def __init__(self, study_dir: Path) -> None:
        self._path = study_dir / "LOCK"
        self._descriptor: int | None = None
        self._released = threading.Event()
        os.register_at_fork(after_in_child=self._forget)

    def __enter__(self) -> Self:
        """Takes the lock; after a driver on another machine that may have died, once its lease is over.

        Raises:
            CrossoverError: another driver has it; the message names it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _taken(descriptor) or _lives_elsewhere(self._path):
            os.close(descriptor)
            raise CrossoverError(
                f"{self._path.parent} is being run by {_described(self._path)}: wait for it, or interrupt it there"
            )
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives it back, also from a child that was just forked and has not closed it yet."""
        self._released.set()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._forget()

    def _renew(self) -> None:
        while not self._released.wait(LEASE_SECONDS / _RENEWALS):
            with contextlib.suppress(OSError, TypeError):  # just released
                os.utime(self._descriptor)  # type: ignore[arg-type]

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


def _is_elsewhere(path: Path) -> bool:
    """Whether the last driver ran on another machine, or on a copy, and did not say that it has ended."""
    try:
        holder = json.loads(path.read_text())
        return bool(holder["host"] != socket.gethostname() or "copy_at" in holder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _lives_elsewhere(path: Path) -> bool:
    """Whether that driver renews its lease; watches for as long as one lasts."""
    if not _is_elsewhere(path):
        return False
    _log.warning("waiting %g s: %s may still run %s", LEASE_SECONDS, _described(path), path.parent)
    before, deadline = path.stat().st_mtime_ns, time.monotonic() + LEASE_SECONDS
    while time.monotonic() < deadline:
        if path.stat().st_mtime_ns != before:
            return True
        time.sleep(_WATCH_SECONDS)
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
        if _is_elsewhere(path) and time.time() - path.stat().st_mtime < LEASE_SECONDS:
            return _described(path)
    return None
