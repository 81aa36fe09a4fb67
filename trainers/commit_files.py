"""A commit on its way to the disk: what the writer's thread does while training goes on.

Every worker writes its shards into the commit's temporary folder. The others tell worker 0 by a small file there that
they are done, and with which digests; it waits for them, writes the rows and COMMIT.json and renames. No worker sends
another anything here: what trains sends too, and a collective in a thread would meet the wrong one.

Everything is flushed at once and then renamed: windows' losses and best weights first, the commit that needs them
last, and what only older commits need is removed after. Should a loss of power break that order, the digests in the
commit refuse it.
"""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.checkpoint import shard_name, write_groups, write_scalars
from crossover.trainers.durable import (
    TEMPORARY,
    Digest,
    digest_of,
    durable_file,
    flush,
    put_in_place,
    reason_of,
    remove_folder,
    remove_leftovers,
    temporary,
    writing,
)
from crossover.trainers.errors import RecordError
from crossover.trainers.record import Commit, RecordPaths, TrialRecord, evaluations_to_bytes
from crossover.trainers.shards import SavedTensors, piece_of, write_pieces
from crossover.trainers.snapshot import Snapshot
from crossover.trainers.storage import PublishedRecord

__all__ = ["CommitFiles", "array_bytes"]

_KEPT_CHECKPOINTS = 2
_PATIENCE_SECONDS = 600.0  # for the shards of the other workers
_IMPATIENCE_SECONDS = 20.0  # where this worker has failed, and they may have too
_POLL_SECONDS = 0.01
_STORE_POLL_SECONDS = 0.2
_BEST_SHARDS = "best"


@dataclass
class CommitFiles:
    """Writes one worker's share of the commits of a trial; worker 0 puts them in place.

    Args:
        paths: the trial's folder.
        rank: of this worker.
        world_size: how many write.
        attempt: a word for this run of several workers, so that what is left of an earlier one writes elsewhere.
        published: where the record lies, if `paths` is a working copy; None: `paths` is the record.
        flushes: threads that flush many files at once; None flushes one after another.
        has_failed: set when this worker has failed, and does not wait long for the others.
    """

    paths: RecordPaths
    rank: int = 0
    world_size: int = 1
    attempt: str = ""
    published: PublishedRecord | None = None
    flushes: Executor | None = None
    has_failed: threading.Event = field(default_factory=threading.Event)
    _last: Commit | None = None
    _kept: dict[int, Commit] | None = None

    def write(self, snapshot: Snapshot) -> None:
        """Writes this worker's share; on worker 0 the commit is in place after it.

        Raises:
            RecordError: it could not be written; the commit before it stands.
        """
        with writing(self.paths.commit(snapshot.number)):
            if self.rank == 0:
                self._write_commit(snapshot)
            else:
                self._write_share(snapshot)

    def go_on_from(self, commit: Commit) -> None:
        """The commits to come rely on what `commit` does; those after it vanish."""
        for number in self.paths.commit_numbers():
            if number > commit.number:
                remove_folder(self.paths.commit(number))
        self._last, self._kept = commit, None

    def remove_leftovers(self) -> None:
        """Removes what was not put in place."""
        for folder in (self.paths.root, self.paths.commits, self.paths.best, self.paths.windows):
            remove_leftovers(folder)

    def _place(self, number: int) -> Path:
        return self.paths.commits / f"{TEMPORARY}{number}{self.attempt and f'-{self.attempt}'}"

    def _write_share(self, snapshot: Snapshot) -> None:
        place = self._place(snapshot.number)
        try:
            files = self._write_tensors(place, snapshot)
            flush(files, self.flushes)
            said = {"files": {str(path.relative_to(place)): digest_of(path).model_dump() for path in files}}
            if self.published is not None:
                self.published.put_share(place, snapshot.number, files)
        except Exception as error:
            for path in place.rglob(shard_name(self.rank, self.world_size)):
                path.unlink()  # makes room for the report
            self._report(place, {"error": reason_of(error)})
            raise
        self._report(place, said)

    def _report(self, place: Path, said: Mapping[str, object]) -> None:
        """Tells worker 0, beside the commit or in the store, where it looks for it."""
        name, content = _report_name(self.rank), json.dumps(said).encode()
        if self.published is None:
            durable_file(place / name, content)
        else:
            self.published.put_report(place, name, content)

    def _write_tensors(self, place: Path, snapshot: Snapshot) -> list[Path]:
        files = []
        if snapshot.groups is not None:
            files += write_groups(place / "checkpoint", snapshot.groups, self.rank, self.world_size)
        if snapshot.best is not None and self.world_size > 1:
            files += write_groups(place, {_BEST_SHARDS: snapshot.best[1]}, self.rank, self.world_size)
        return files

    def _write_commit(self, snapshot: Snapshot) -> None:
        place = self._place(snapshot.number)
        try:
            if self.world_size == 1:
                shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True, exist_ok=True)
            shards = {path: digest_of(path) for path in self._write_tensors(place, snapshot)}
            shards |= self._shares_of_others(snapshot.number)
            windows, best = self._write_windows(snapshot), self._write_best(snapshot)
            files = {path: shards[path] for path in shards if path.parent.name != _BEST_SHARDS}
            files |= self._write_rows(place, snapshot)
            by_name = {str(path.relative_to(place)): digest for path, digest in files.items()}
            commit = self._commit(snapshot, by_name, windows | best)
            (place / "COMMIT.json").write_bytes(commit.to_bytes())
            moved = [*windows, *(path.parent for path in best)]
            moves = {path: temporary(path) for path in moved} | {self.paths.commit(commit.number): place}
            put_in_place(moves, self.flushes)
        except BaseException:
            self.remove_leftovers()
            raise
        self._last = commit
        self._prune()
        if self.published is not None:
            self.published.publish(self.paths)
            if self.world_size > 1:
                self.published.drop_shares(place)

    def _write_rows(self, place: Path, snapshot: Snapshot) -> dict[Path, Digest]:
        rows = place / "evaluations.arrow"
        rows.write_bytes(evaluations_to_bytes(snapshot.evaluations))
        paths = [rows]
        if snapshot.groups is not None:
            paths.append(write_scalars(place / "checkpoint", snapshot.scalars))
        return {path: digest_of(path) for path in paths}

    def _write_windows(self, snapshot: Snapshot) -> dict[Path, Digest]:
        digests = {}
        for step, nats in snapshot.windows.items():
            path = self.paths.window_nats(step)
            path.parent.mkdir(exist_ok=True)
            temporary(path).write_bytes(array_bytes(nats))
            digests[path] = digest_of(temporary(path))
        return digests

    def _write_best(self, snapshot: Snapshot) -> dict[Path, Digest]:
        """One whole file: as it is where one worker trains, put together from the shards of several."""
        if snapshot.best is None:
            return {}
        step, pieces = snapshot.best
        path = self.paths.best_weights(step)
        folder = temporary(path.parent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.world_size > 1:
            shards = self._place(snapshot.number) / _BEST_SHARDS
            saved = SavedTensors(sorted(shards.iterdir()))
            pieces = {name: piece_of(saved[name]) for name in saved}
            shutil.rmtree(shards)
        write_pieces(folder / path.name, pieces)
        return {path: digest_of(folder / path.name)}

    def _commit(self, snapshot: Snapshot, files: dict[str, Digest], new: Mapping[Path, Digest]) -> Commit:
        needs, best_step = ({}, None) if self._last is None else (dict(self._last.needs), self._last.best_step)
        if snapshot.best is not None and best_step is not None:
            needs.pop(self._name(self.paths.best_weights(best_step)))
        return Commit(
            number=snapshot.number,
            files=files,
            needs=needs | {self._name(path): digest for path, digest in new.items()},
            best_step=best_step if snapshot.best is None else snapshot.best[0],
            has_checkpoint=snapshot.groups is not None,
        )

    def _shares_of_others(self, number: int) -> dict[Path, Digest]:
        """The files that the other workers wrote, once they all have; their reports are removed."""
        place, missing, begun = self._place(number), list(range(1, self.world_size)), time.monotonic()
        files: dict[Path, Digest] = {}
        while missing:
            for rank, report in self._reports(place, missing).items():
                files |= self._share_of(place, number, rank, report)
                missing.remove(rank)
            patience = _IMPATIENCE_SECONDS if self.has_failed.is_set() else _PATIENCE_SECONDS
            if missing and time.monotonic() - begun > patience:
                raise RecordError(
                    f"{self.paths.commit(number)} cannot be written: worker {missing[0]} of {self.world_size} (they "
                    f"count from 0) did not write its share within {patience:g} s. What was committed before stands: "
                    "see what became of that worker and of its disk, and run the same command again"
                )
            if missing:
                time.sleep(_POLL_SECONDS if self.published is None else _STORE_POLL_SECONDS)
        return files

    def _reports(self, place: Path, missing: list[int]) -> dict[int, bytes]:
        """Of the workers that are done: beside the commit, or in the store, for they may be on other machines."""
        names = {_report_name(rank): rank for rank in missing}
        if self.published is not None:
            return {names[name]: said for name, said in self.published.reports(place, names).items()}
        return {rank: (place / name).read_bytes() for name, rank in names.items() if (place / name).exists()}

    def _share_of(self, place: Path, number: int, rank: int, report: bytes) -> dict[Path, Digest]:
        said = json.loads(report)
        if self.published is None:
            (place / _report_name(rank)).unlink()
        if "error" in said:
            raise OSError(0, f"worker {rank} says: {said['error']}")
        files = {place / name: Digest.model_validate(digest) for name, digest in said["files"].items()}
        if self.published is not None:
            self.published.take_share(place, number, files)
        return files

    def _prune(self) -> None:
        """Keeps the newest commits with checkpoints, the rows alone that follow them, and what they rely on."""
        assert self._last is not None
        if self._kept is None:
            self._kept = dict(self._readable())
        self._kept[self._last.number] = self._last
        numbers = sorted(self._kept, reverse=True)
        oldest = ([n for n in numbers if self._kept[n].has_checkpoint][:_KEPT_CHECKPOINTS] or [0])[-1]
        self._kept = {number: self._kept[number] for number in numbers if number >= oldest}
        for number in self.paths.commit_numbers():
            if number not in self._kept:
                remove_folder(self.paths.commit(number))
        best = {str(commit.best_step) for commit in self._kept.values()}
        for folder in self.paths.best.glob("*"):
            if folder.name not in best:
                remove_folder(folder)

    def _readable(self) -> Iterator[tuple[int, Commit]]:
        record = TrialRecord(self.paths.root)
        for number in self.paths.commit_numbers():
            try:
                yield number, record.read_commit(number)[0]
            except RecordError:
                continue

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.paths.root))


def array_bytes(array: NDArray[np.float32]) -> bytes:
    """The array as a NumPy file."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _report_name(rank: int) -> str:
    return f"worker-{rank}.json"
