"""What the checkpoints of a study's trials take, and what of them can go: in a folder, or in an object store.

In a store a checkpoint is counted on when all its objects are there with the sizes that its commit states: their
content is the store's own care, and to read it would cost as much as to write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crossover.trainers.record import Commit, TrialRecord
from crossover.trainers.record_space import Droppable, Kind, checkpoint_bytes, drop, droppable
from crossover.trainers.storage import ObjectStore, StoredFile

__all__ = ["FolderSpace", "Space", "StoreSpace"]

_COMMIT = "COMMIT.json"


class Space(Protocol):
    """Where the records of a study's trials lie."""

    def checkpoint_bytes(self, trial_id: str) -> int:
        """Bytes of a trial's checkpoints and best weights."""

    def droppable(self, trial_id: str, *, keeps_best: bool) -> Iterator[Droppable]:
        """What of the record of a trial that does not run can go."""

    def drop(self, one: Droppable) -> int:
        """Removes it; the bytes that this gave."""


@dataclass(frozen=True)
class FolderSpace:
    """In a study's folder."""

    study_dir: Path

    def checkpoint_bytes(self, trial_id: str) -> int:
        """Those that are being written included."""
        return checkpoint_bytes(self._record(trial_id))

    def droppable(self, trial_id: str, *, keeps_best: bool) -> Iterator[Droppable]:
        """Its paths are those of the folders."""
        return droppable(self._record(trial_id), keeps_best=keeps_best)

    def drop(self, one: Droppable) -> int:
        """No half of it ever stands under its name."""
        return drop(one)

    def _record(self, trial_id: str) -> TrialRecord:
        return TrialRecord(self.study_dir / "trials" / trial_id)


@dataclass(frozen=True)
class StoreSpace:
    """In an object store; paths are names in the study's folder.

    Args:
        study: the study's folder.
    """

    study: ObjectStore

    def checkpoint_bytes(self, trial_id: str) -> int:
        """By one listing."""
        return sum(file.size for name, file in self._files(trial_id).items() if _is_of_checkpoint(name))

    def droppable(self, trial_id: str, *, keeps_best: bool) -> Iterator[Droppable]:
        """By one listing, and the commits of a trial that has not ended."""
        files = self._files(trial_id)
        root = f"trials/{trial_id}"
        numbers = sorted({int(n.split("/")[1]) for n in files if n.endswith(f"/{_COMMIT}")}, reverse=True)
        if "end.json" in files:
            for number in numbers:
                yield from _found(root, "training state", f"commits/{number}/checkpoint", files)
            if not keeps_best:
                yield from _found(root, "best weights", "best", files)
            return
        newest = next((c for n in numbers if (c := self._whole(trial_id, n, files)) is not None), None)
        if newest is None:
            return
        for number in numbers:
            if number < newest.number:
                yield from _found(root, "older checkpoint", f"commits/{number}", files)
        for step in sorted({name.split("/")[1] for name in files if name.startswith("best/")}):
            if not any(name.startswith(f"best/{step}/") for name in newest.needs):
                yield from _found(root, "older checkpoint", f"best/{step}", files)

    def drop(self, one: Droppable) -> int:
        """Its commit first, where it is one, so that no half of it is taken for a whole."""
        name = one.path.as_posix()
        self.study.remove([f"{name}/{_COMMIT}"] if one.kind == "older checkpoint" else [])
        self.study.remove_folders([name])
        return one.num_bytes

    def leftovers(self, trial_id: str) -> Iterator[tuple[Path, int]]:
        """What killed writers left: shares and files of commits that were never made."""
        files = self._files(trial_id)
        made = {name.rpartition("/")[0] for name in files if name.endswith(f"/{_COMMIT}")}
        folders = {"/".join(name.split("/")[:2]) for name in files if name.startswith(("commits/", "shares/"))}
        for folder in sorted(folders - made):
            yield Path(f"trials/{trial_id}/{folder}"), _bytes(folder, files)

    def _files(self, trial_id: str) -> dict[str, StoredFile]:
        return self.study.folder(f"trials/{trial_id}").list()

    def _whole(self, trial_id: str, number: int, files: Mapping[str, StoredFile]) -> Commit | None:
        """A commit from which a trial can go on, every file of which is there with its size."""
        folder = f"commits/{number}"
        content = self.study.get(f"trials/{trial_id}/{folder}/{_COMMIT}")
        try:
            commit = None if content is None else Commit.from_bytes(content)
        except ValueError:
            return None
        if commit is None or not commit.has_checkpoint:
            return None
        wanted = {f"{folder}/{name}": digest.size for name, digest in commit.files.items()}
        wanted |= {name: digest.size for name, digest in commit.needs.items()}
        return commit if all(name in files and files[name].size == size for name, size in wanted.items()) else None


def _is_of_checkpoint(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ("best", "shares") or (parts[0] == "commits" and parts[2:3] == ["checkpoint"])


def _bytes(folder: str, files: Mapping[str, StoredFile]) -> int:
    return sum(file.size for name, file in files.items() if name.startswith(f"{folder}/"))


def _found(root: str, kind: Kind, folder: str, files: Mapping[str, StoredFile]) -> Iterator[Droppable]:
    if size := _bytes(folder, files):
        yield Droppable(Path(f"{root}/{folder}"), kind, size)
