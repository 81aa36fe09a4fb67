"""One driver a study in an object store: a lease that its holder renews, and a term that grows with each holder.

There is no lock that a kill frees, so who finds the name of a holder watches for as long as a lease lasts: one that is
renewed belongs to a driver that lives. No clocks are compared. Who takes it looks again after a pause, since two may
have written at once: the last one has it. A holder that was cut off finds another term when it renews, and ends; and
the trials of an older term publish nothing more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from crossover.platform.execution.lock import LEASE_SECONDS
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore, StorageError

__all__ = ["LOCK", "Holder", "StudyLease", "WriterCheck", "holder_of"]

LOCK = "LOCK"

_log = logging.getLogger(__name__)
_RENEWALS = 6  # in the time of a lease
_WATCH_SECONDS = 1.0
_SETTLE_SECONDS = 1.0


class Holder(BaseModel):
    """Who runs a study.

    Args:
        pid: of the driver.
        host: its machine.
        copy_at: its copy of the study, which a kernel lock guards on that machine.
        term: one more than the holder before had.
        renewed: how often.
        is_over: it has said that it has ended.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    host: str
    copy_at: str
    term: int
    renewed: int = 0
    is_over: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def holder_of(store: ObjectStore) -> Holder | None:
    """What the lease in a study's folder says; None: nobody ever held one, or it cannot be made out."""
    content = store.get(LOCK)
    try:
        return None if content is None else Holder.model_validate_json(content)
    except ValidationError:
        return None


@dataclass
class StudyLease:
    """Held while a driver runs the study of a folder in a store.

    Args:
        store: the study's folder.
        copy_at: this driver's copy of it, under its kernel lock.
    """

    store: ObjectStore
    copy_at: str
    term: int = 0
    _lost: str | None = None
    _released: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _renewed: int = 0

    def __enter__(self) -> Self:
        """Takes the lease; after a driver that may have died, once it has not been renewed for its whole time.

        Raises:
            CrossoverError: another driver has it; the message names it.
            StorageError: the store cannot be used.
        """
        before = holder_of(self.store)
        if before is not None and self._lives(before):
            raise CrossoverError(f"{self.store.uri} is being run by {before}: wait for it, or interrupt it there")
        self.term = 1 if before is None else before.term + 1
        self._write()
        time.sleep(_SETTLE_SECONDS)
        self._look()
        self.check()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        """Gives it back, unless the store is away: then its time runs out."""
        self._released.set()
        if self._thread is not None:
            self._thread.join(_WATCH_SECONDS)
        if self._lost is None:
            with contextlib.suppress(StorageError):
                self._write(is_over=True)

    def check(self) -> None:
        """Raises if another driver has taken over.

        Raises:
            StorageError: it has; the message names it.
        """
        if self._lost is not None:
            raise StorageError(self._lost)

    def _me(self, *, is_over: bool = False) -> Holder:
        return Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            copy_at=self.copy_at,
            term=self.term,
            renewed=self._renewed,
            is_over=is_over,
        )

    def _write(self, *, is_over: bool = False) -> None:
        self._renewed += 1
        self.store.put(LOCK, self._me(is_over=is_over).model_dump_json().encode())

    def _look(self) -> None:
        now = holder_of(self.store)
        me = self._me()
        if now is not None and (now.pid, now.host, now.term) != (me.pid, me.host, me.term):
            self._lost = f"{self.store.uri} is being run by {now} now, which has taken over from this driver"

    def _renew(self) -> None:
        while not self._released.wait(LEASE_SECONDS / _RENEWALS):
            try:
                self._look()
                if self._lost is not None:
                    return
                self._write()
            except StorageError as error:  # the driver itself will meet it
                _log.warning("the lease is not renewed: %s", error)

    def _lives(self, holder: Holder) -> bool:
        """Whether that driver renews its lease; watches for as long as one lasts."""
        me = self._me()
        if holder.is_over or (holder.host, holder.copy_at) == (me.host, me.copy_at):
            return False  # of the same copy: its kernel lock is ours, so that process is gone
        _log.warning("waiting %g s: %s may still run %s", LEASE_SECONDS, holder, self.store.uri)
        deadline = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_WATCH_SECONDS)
            now = holder_of(self.store)
            if now is None or now.is_over:
                return False
            if (now.term, now.renewed) != (holder.term, holder.renewed):
                return True
        return False


@dataclass(frozen=True)
class WriterCheck:
    """Whether the legs of a term may still write.

    Args:
        store: the study's folder.
        term: of the driver that started the leg.
    """

    store: ObjectStore
    term: int

    def __call__(self) -> None:
        """Asks the store.

        Raises:
            StorageError: another driver has taken over.
        """
        holder = holder_of(self.store)
        if holder is not None and holder.term > self.term:
            raise StorageError(
                f"{self.store.uri} is being run by {holder} now: what was left of the driver before it writes no more"
            )
