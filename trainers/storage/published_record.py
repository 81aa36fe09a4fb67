"""A trial's record in an object store, of which the machine that trains has a working copy.

The record is written to the disk as ever, and what was committed there is then published: what a commit relies on
first, its own files, and COMMIT.json last, so that a reader of the store, as one of the disk, sees whole commits only.
What only older commits rely on is removed after. Before each of these steps the writer asks whether it still is the
writer: one that was left over from a driver that is gone must not write among the commits of its successor.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crossover.trainers.durable import TEMPORARY, writing
from crossover.trainers.errors import RecordError
from crossover.trainers.record import Commit, RecordPaths, TrialRecord
from crossover.trainers.record_space import verified_commit
from crossover.trainers.storage.object_store import ObjectStore

__all__ = ["PublishedRecord"]

_COMMIT = "COMMIT.json"
_FOLDERS = ("commits", "best")
_SHARES = "shares"


def _anybody() -> None:
    """Nobody else writes."""


@dataclass
class PublishedRecord:
    """Keeps a trial's folder in a store like its working copy.

    Args:
        store: the trial's folder there.
        check_writer: raises if this process may not write there any more.
    """

    store: ObjectStore
    check_writer: Callable[[], None] = _anybody
    _published: dict[str, tuple[int, int] | None] = field(default_factory=dict)

    def fetch(self, paths: RecordPaths) -> None:
        """Makes the working copy anew: all that a trial needs to go on, or to say that it has ended.

        Raises:
            StorageError: the store cannot be read.
            RecordError: the copy cannot be written.
        """
        self.check_writer()
        _emptied(paths.root)
        there = self.store.list()
        is_over = paths.end.name in there
        names = [name for name in there if not name.startswith((*_FOLDERS, _SHARES))]
        self._get(paths, names)
        numbers = sorted((int(n.split("/")[1]) for n in there if _makes_commit(n)), reverse=True)
        for number in [] if is_over else numbers:
            if self._got_commit(paths, number):
                break
        self._published = {name: _identity(paths.root / name) for name in there}

    def join(self, paths: RecordPaths) -> None:
        """Makes the copy of a machine without the first worker, in a folder of this leg alone; who comes first does.

        Raises:
            StorageError: the store cannot be read.
            RecordError: the copy cannot be written.
        """
        with writing(paths.root):
            paths.root.mkdir(parents=True, exist_ok=True)
            lock = paths.root.with_name(f".{paths.root.name}.lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not paths.facts.exists():
                self.fetch(paths)

    def put_share(self, place: Path, number: int, files: Iterable[Path]) -> None:
        """Puts what one worker of several wrote of a commit.

        Args:
            place: where the commit is being written on this machine.
            number: of the commit.
            files: tensors of it; those that are part of the checkpoint go where the commit will be.

        Raises:
            StorageError: the store cannot be written.
        """
        self.store.upload({self._name_of_share(place, number, path): path for path in files})

    def put_report(self, place: Path, name: str, content: bytes) -> None:
        """Says that a worker's share is there, or why not.

        Raises:
            StorageError: the store cannot be written.
        """
        self.store.put(f"{_SHARES}/{place.name}/{name}", content)

    def reports(self, place: Path, missing: Iterable[str]) -> dict[str, bytes]:
        """Reports of workers, by name, of those that are missing and there by now.

        Raises:
            StorageError: the store cannot be read.
        """
        there = self.store.list(f"{_SHARES}/{place.name}", recursive=False)
        names = [name for name in missing if f"{_SHARES}/{place.name}/{name}" in there]
        contents = {name: self.store.get(f"{_SHARES}/{place.name}/{name}") for name in names}
        return {name: content for name, content in contents.items() if content is not None}

    def take_share(self, place: Path, number: int, files: Iterable[Path]) -> None:
        """Fetches what is to be put together here, and notes what is not to be put again.

        Raises:
            StorageError: the store cannot be read.
            FileNotFoundError: a share is not there.
        """
        for path in files:
            name = self._name_of_share(place, number, path)
            if name.startswith(_SHARES):
                self.store.download({name: path})
            else:
                self._published[name] = _identity(path)

    def drop_shares(self, place: Path) -> None:
        """What was put together is not needed in parts."""
        self.store.remove_folders([f"{_SHARES}/{place.name}"])

    def _name_of_share(self, place: Path, number: int, path: Path) -> str:
        inside = path.relative_to(place).as_posix()
        return f"commits/{number}/{inside}" if inside.startswith("checkpoint/") else f"{_SHARES}/{place.name}/{inside}"

    def publish(self, paths: RecordPaths) -> None:
        """Puts what is new in the working copy, what others rely on first, and removes what went.

        Raises:
            StorageError: the store cannot be written, or this process may not write there any more.
        """
        here = {name: identity for name in _names(paths.root) if (identity := _identity(paths.root / name)) is not None}
        changed = [name for name, identity in here.items() if self._published.get(name) != identity]
        for stage in range(3):
            if now := [name for name in changed if _stage(name) == stage]:
                self.check_writer()
                self.store.upload({name: paths.root / name for name in now})
        self._published |= {name: here[name] for name in changed}
        if any(_stage(name) > 0 for name in changed):
            self._remove_what_went(here)

    def _get(self, paths: RecordPaths, names: Iterable[str]) -> None:
        self.store.download({name: paths.root / name for name in names})

    def _got_commit(self, paths: RecordPaths, number: int) -> bool:
        """Fetches a commit and what it needs, and says whether a trial can go on from it."""
        prefix = f"commits/{number}/"
        record = TrialRecord(paths.root)
        try:
            self._get(paths, [f"{prefix}{_COMMIT}", f"{prefix}evaluations.arrow"])
            commit: Commit = record.read_commit(number)[0]
            needs = [name for name in commit.needs if not (paths.root / name).exists()]
            self._get(paths, [*(f"{prefix}{name}" for name in commit.files), *needs])
        except (FileNotFoundError, RecordError):
            return False  # whoever goes on with the record says what is wrong with it
        return verified_commit(record, number) is not None

    def _remove_what_went(self, here: Iterable[str]) -> None:
        kept, folders = set(here), {_folder(name) for name in here}
        gone = [name for name in self._published if name not in kept]
        whole = {folder for name in gone if (folder := _folder(name)) and folder not in folders}
        self.store.remove_folders(sorted(whole))
        self.store.remove(name for name in gone if _folder(name) is None)
        self._published = {name: self._published[name] for name in self._published if name in kept}


def _folder(name: str) -> str | None:
    """The folder of a commit or of best weights that a name lies in, which goes as a whole."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] in _FOLDERS and len(parts) > 2 else None


def _stage(name: str) -> int:
    """0: what others rely on; 1: what makes a commit; 2: the end of the trial."""
    return 2 if name == "end.json" else int(name.endswith(f"/{_COMMIT}"))


def _makes_commit(name: str) -> bool:
    """Whether it is the last of a commit's files: without it a writer was cut off, and there is no commit."""
    first, *rest = name.split("/")
    return first == "commits" and len(rest) == 2 and rest[0].isdecimal() and rest[1] == _COMMIT


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _names(root: Path) -> list[str]:
    paths = (path for path in root.rglob("*") if path.is_file())
    names = (path.relative_to(root) for path in paths)
    return [name.as_posix() for name in names if not any(part.startswith(TEMPORARY) for part in name.parts)]


def _emptied(root: Path) -> None:
    with writing(root):
        for path in root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
