"""A study in an object store, and a copy of it on this machine that everything else reads.

The copy has the layout of a study's folder, without checkpoints. An object is fetched when its size or its time is not
that of the copy. Nothing can be appended to an object, so decisions are kept in parts (`decisions/0001-000000.jsonl`):
the last part is put anew until it is large, and the copy has them joined, a file an attempt.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.execution.decisions import Suggested, read_decisions
from crossover.platform.storage.lease import LOCK, holder_of
from crossover.trainers.data.python_stdlib import cache_folder
from crossover.trainers.durable import durable_file, remove_folder, writing
from crossover.trainers.record import RecordPaths
from crossover.trainers.storage import ObjectStore, StoredFile

__all__ = ["DecisionParts", "RemoteStudy", "copy_folder"]

_AT_ONCE = 32
_SAME_TIME_NS = 2_000_000_000
"""S3 tells times in whole seconds: what is younger than this when it is fetched may be replaced under the same time, so
it is fetched again."""
_UNKNOWN_TIME_NS = 0
_TRIES = 3  # a running trial may replace what was listed
_KEPT_COMMITS = 2
_PART_BYTES = 64 << 10
_TOP = ("study.yaml", "warm_start.json")


def copy_folder(uri: str, role: str) -> Path:
    """Where this machine keeps a copy of a study.

    Args:
        uri: of the study's folder.
        role: `driver`, `legs` or `view`: they do not write in one another's.
    """
    where = uri.partition("?")[0].rstrip("/")
    key = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return cache_folder(None) / "studies" / f"{where.rpartition('/')[2]}-{key}" / role


@dataclass(frozen=True)
class RemoteStudy:
    """A study in a store.

    Args:
        uri: of its folder.
        copy: folder of this machine's copy.
        with_windows: the copy has the losses of windows too, which comparing trials takes and deciding does not.
    """

    uri: str
    copy: Path
    with_windows: bool = False

    @property
    def store(self) -> ObjectStore:
        """Its folder there."""
        return ObjectStore(self.uri)

    def fetch(self) -> None:
        """Brings the copy up to date; one of an earlier study of that name is dropped.

        Raises:
            StorageError: the store cannot be read.
            RecordError: the copy cannot be written.
        """
        there = self.store.list(recursive=False)
        for name in _TOP:
            if name not in there:
                (self.copy / name).unlink(missing_ok=True)
        self._fetch(there, {name: name for name in there if name in _TOP})
        before = self._first_line()
        self._fetch_decisions()
        if self._first_line() != before:
            remove_folder(self.copy / "trials")
        trials = {line.trial_id for line in read_decisions(self.copy) if isinstance(line, Suggested)}
        waiting = [trial for trial in sorted(trials) if not self._has_ended(trial)]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as threads:
            for _ in threads.map(self.fetch_trial, waiting):
                pass

    def fetch_holder(self) -> None:
        """Takes up who runs it now, for `lock_holder` to say: a file as old as the last sign of life."""
        found = self.store.list(recursive=False).get(LOCK)
        holder = None if found is None else holder_of(self.store)
        path = self.copy / LOCK
        if found is None or holder is None or holder.is_over:
            path.unlink(missing_ok=True)
            return
        with writing(path):
            path.write_text(holder.model_dump_json())
            os.utime(path, ns=(found.modified_ns, found.modified_ns))

    def fetch_trial(self, trial_id: str) -> None:
        """Brings the copy of one trial's record up to date: its facts, rows and end.

        Raises:
            StorageError: the store cannot be read.
            RecordError: the copy cannot be written.
        """
        folder = f"trials/{trial_id}"
        for left in reversed(range(_TRIES)):
            there = self.store.folder(folder).list()
            wanted = {f"{folder}/{name}": there[name] for name in self._wanted(there)}
            try:
                self._fetch(wanted, {name: name for name in wanted})
            except FileNotFoundError:
                if not left:
                    raise
            else:
                self._drop_old_commits(trial_id, there)
                return

    def publish(self, names: Iterable[str]) -> None:
        """Puts files of the copy into the store.

        Raises:
            StorageError: the store cannot be written.
        """
        self.store.upload({name: self.copy / name for name in names})

    def publish_top(self) -> None:
        """Puts the study as it is frozen, and what it was told of an earlier one."""
        self.publish(name for name in _TOP if (self.copy / name).exists())

    def publish_folder(self, name: str) -> None:
        """Puts all files of a folder of the copy."""
        folder = self.copy / name
        self.publish(path.relative_to(self.copy).as_posix() for path in folder.rglob("*") if path.is_file())

    def _wanted(self, there: Mapping[str, StoredFile]) -> list[str]:
        commits = {int(name.split("/")[1]) for name in there if name.endswith("/COMMIT.json")}
        newest = {f"commits/{number}" for number in sorted(commits, reverse=True)[:_KEPT_COMMITS]}
        return [name for name in there if self._is_wanted(name, newest)]

    def _is_wanted(self, name: str, newest: set[str]) -> bool:
        folder, _, file = name.rpartition("/")
        if folder.startswith("commits"):
            return folder in newest and file in ("COMMIT.json", "evaluations.arrow")
        return folder == "" or (folder == "windows" and self.with_windows)

    def _first_line(self) -> bytes:
        """Says which life of the study this is: when it began, and by whom."""
        path = self.copy / "decisions" / "0001.jsonl"
        return path.read_bytes().partition(b"\n")[0] if path.exists() else b""

    def _has_ended(self, trial_id: str) -> bool:
        """An ended trial's record changes no more; one without its windows may have been fetched for deciding."""
        return RecordPaths(self.copy / "trials" / trial_id).end.exists()

    def _drop_old_commits(self, trial_id: str, there: Mapping[str, StoredFile]) -> None:
        paths = RecordPaths(self.copy / "trials" / trial_id)
        for number in paths.commit_numbers():
            if f"commits/{number}/COMMIT.json" not in there:
                remove_folder(paths.commit(number))

    def _fetch(self, there: Mapping[str, StoredFile], names: Mapping[str, str]) -> None:
        """Objects by the names that they have here; `end.json` comes last, so that it tells that the rest is here."""
        stale = {name: self.copy / here for name, here in names.items() if not _is_as(self.copy / here, there[name])}
        still_changes = time.time_ns() - _SAME_TIME_NS
        for is_last in (False, True):
            files = {name: path for name, path in stale.items() if name.endswith("/end.json") is is_last}
            self.store.download(files)
            for name, path in files.items():
                modified_ns = there[name].modified_ns
                known_ns = modified_ns if modified_ns < still_changes else _UNKNOWN_TIME_NS
                os.utime(path, ns=(known_ns, known_ns))

    def _fetch_decisions(self) -> None:
        there = self.store.folder("decisions").list(recursive=False)
        parts = {f"decisions/{name}": file for name, file in there.items()}
        self._fetch(parts, {name: f".{name}" for name in parts})
        by_attempt: dict[str, list[str]] = {}
        for name in sorted(parts):
            by_attempt.setdefault(name.rpartition("/")[2].partition("-")[0], []).append(name)
        for path in self.copy.glob("decisions/*.jsonl"):
            if path.stem not in by_attempt:
                path.unlink()
        for attempt, names in by_attempt.items():
            content = b"".join((self.copy / f".{name}").read_bytes() for name in names)
            path = self.copy / "decisions" / f"{attempt}.jsonl"
            if not path.exists() or path.read_bytes() != content:
                durable_file(path, content)


def _is_as(path: Path, file: StoredFile) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.modified_ns)


@dataclass
class DecisionParts:
    """Puts the decisions of one attempt into the store, as they are appended to the copy.

    Args:
        store: the study's folder.
        check: raises if another driver has taken over.
    """

    store: ObjectStore
    check: Callable[[], None]
    _number: int = 0
    _part: bytes = b""

    def __call__(self, attempt: int, content: bytes, now: bool) -> None:
        """Takes up a line; with `now` it is in the store, with all before it, when this returns.

        Raises:
            StorageError: the store cannot be written, or another driver has taken over.
        """
        self._part += content
        if not self._part or not now:
            return
        self.check()
        self.store.put(f"decisions/{attempt:04d}-{self._number:06d}.jsonl", self._part)
        if len(self._part) >= _PART_BYTES:
            self._number, self._part = self._number + 1, b""
