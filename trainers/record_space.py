"""What a trial's record takes on the disk, and what of it can go: never rows, losses of windows, facts or the end.

A trial that has ended needs no training state any more. One that waits needs its newest checkpoint, once that has been
verified, and the best weights that it relies on. The best weights of an ended trial are all that is left of its model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossover.trainers.durable import TEMPORARY, remove_folder
from crossover.trainers.errors import RecordError
from crossover.trainers.record import Commit, RecordPaths, TrialRecord

__all__ = ["Droppable", "Kind", "checkpoint_bytes", "drop", "droppable", "folder_bytes", "leftovers", "verified_commit"]

Kind = Literal["training state", "best weights", "older checkpoint"]


@dataclass(frozen=True)
class Droppable:
    """A folder of a record that can go.

    Args:
        path: the folder.
        kind: what it holds.
        num_bytes: its files' sizes.
    """

    path: Path
    kind: Kind
    num_bytes: int


def folder_bytes(folder: Path) -> int:
    """Sizes of the files in a folder; one that vanishes meanwhile has none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue
    return total


def checkpoint_bytes(record: TrialRecord) -> int:
    """Bytes of a trial's checkpoints and best weights, those that are being written included."""
    paths = record.paths
    places = [*paths.commits.glob("[0-9]*/checkpoint"), *paths.commits.glob(f"{TEMPORARY}*"), paths.best]
    return sum(map(folder_bytes, places))


def droppable(record: TrialRecord, *, keeps_best: bool) -> Iterator[Droppable]:
    """What of the record of a trial that does not run can go.

    Args:
        record: of the trial.
        keeps_best: its best weights stay.
    """
    paths = record.paths
    numbers = paths.commit_numbers()
    if record.end() is not None:
        yield from _found("training state", [paths.commit(n) / "checkpoint" for n in numbers])
        if not keeps_best:
            yield from _found("best weights", [paths.best])
        elif (found := record.newest_commit()) is not None:
            yield from _found("training state", _unneeded(paths, found[0]))
        return
    newest = next((commit for number in numbers if (commit := verified_commit(record, number)) is not None), None)
    if newest is not None:
        older = [paths.commit(n) for n in numbers if n < newest.number]
        yield from _found("older checkpoint", [*older, *_unneeded(paths, newest)])


def leftovers(paths: RecordPaths) -> list[Path]:
    """What a killed writer left of things that it was writing."""
    folders = (paths.root, paths.commits, paths.best, paths.windows)
    return [path for folder in folders for path in folder.glob(f"{TEMPORARY}*")]


def drop(one: Droppable) -> int:
    """Removes it, so that no half of it ever stands under its name; the bytes that this gave."""
    remove_folder(one.path)
    return one.num_bytes


def _found(kind: Kind, folders: list[Path]) -> Iterator[Droppable]:
    for folder in folders:
        if folder.is_dir():
            yield Droppable(folder, kind, folder_bytes(folder))


def _unneeded(paths: RecordPaths, newest: Commit) -> list[Path]:
    """Best weights on which only older commits rely."""
    needed = {paths.root / name for name in newest.needs}
    return [path.parent for path in paths.best.glob("[0-9]*/*.safetensors") if path not in needed]


def verified_commit(record: TrialRecord, number: int) -> Commit | None:
    """Commit `number` if a trial can go on from it and every file of it is what it was; else None."""
    paths = record.paths
    try:
        commit, _ = record.read_commit(number)
    except RecordError:
        return None
    digests = {paths.commit(number) / name: digest for name, digest in commit.files.items()}
    digests |= {paths.root / name: digest for name, digest in commit.needs.items()}
    if commit.has_checkpoint and all(digest.matches(path) for path, digest in digests.items()):
        return commit
    return None
