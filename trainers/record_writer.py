"""The trial's record, as it is written: rows and checkpoint committed together, atomically.

What a commit relies on (windows' losses, best weights) is written before it, and what only older commits rely on is
removed after it, so a kill at any instant leaves a newest commit with everything that it needs. Two commits with
checkpoints are kept: if the newest is truncated or altered it is refused and the one before it is used.

If checkpoints were committed and none of them is valid any more, that is an error and not a start from the beginning:
rows already reported would silently vanish.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.checkpoint import Checkpoint, read_checkpoint, write_checkpoint, write_tensors
from crossover.trainers.durable import (
    TEMPORARY,
    Digest,
    digest_of,
    durable_file,
    durable_folder,
    remove_folder,
    remove_leftovers,
    writing,
)
from crossover.trainers.errors import RecordError
from crossover.trainers.record import (
    Commit,
    RecordPaths,
    TrialRecord,
    WindowFacts,
    evaluations_from_bytes,
    evaluations_to_bytes,
)
from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts

__all__ = ["RecordWriter", "Restored", "open_record"]

_log = logging.getLogger(__name__)
_KEPT_CHECKPOINTS = 2
_LOCK_PATIENCE_SECONDS = 10.0
_MAX_CHANGES = 4


@dataclass(frozen=True)
class Restored:
    """Where a trial goes on: its rows so far, oldest first, and its checkpoint."""

    evaluations: list[Evaluation]
    checkpoint: Checkpoint


@contextmanager
def open_record(path: Path, facts: TrialFacts) -> Iterator[RecordWriter]:
    """The record at `path`, for one writer at a time; starts it, or goes on with what is there.

    Raises:
        RecordError: the folder cannot be written, belongs to another trial, or is being written by another process.
    """
    if path.exists() and not path.is_dir():
        raise RecordError(f"{path} is a file, and a run is recorded in a folder: name another one")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    try:
        writer = RecordWriter(RecordPaths(path))
        writer.start(facts)
        yield writer
    finally:
        os.close(lock)


@dataclass
class RecordWriter:
    """Writes one trial's folder. Use `open_record`, which sees to it that there is one writer."""

    paths: RecordPaths
    _needs: dict[str, Digest] = field(default_factory=dict)
    _best_step: int | None = None
    _next_number: int = 0

    @property
    def record(self) -> TrialRecord:
        """The same folder, for reading."""
        return TrialRecord(self.paths.root)

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation that was committed or restored."""
        return self._best_step

    def start(self, facts: TrialFacts) -> None:
        """Writes `trial.json`, or finds that it is there already.

        Raises:
            RecordError: the folder is another trial's, of other data, or holds something else.
        """
        existing = self.record.facts()
        if existing is None:
            self._refuse_other_things()
            with writing(self.paths.facts):
                durable_file(self.paths.facts, facts.model_dump_json(indent=2).encode())
            return
        for name in ("schema_version", "trial_id", "data_hash", "subset_hash"):
            was, is_now = getattr(existing, name), getattr(facts, name)
            if was != is_now:
                changed = ", ".join(islice(_changed(existing.config, facts.config), _MAX_CHANGES))
                raise RecordError(
                    f"{self.paths.root} is the record of another trial ({name} {was}, this one has {is_now}"
                    f"{changed and f'; {changed}'}): give this run another folder"
                )

    def _refuse_other_things(self) -> None:
        """A run would leave its files among those of a study, or of anything else."""
        own = {path.name for path in (self.paths.end, self.paths.commits, self.paths.best, self.paths.windows)}
        names = sorted(path.name for path in self.paths.root.iterdir() if not path.name.startswith(TEMPORARY))
        if others := [name for name in names if name not in own]:
            raise RecordError(
                f"{self.paths.root} is no run's folder (it holds {others[0]}): name a folder that does not exist yet, "
                "or that of the run to go on with"
            )

    def write_window_facts(self, validation: WindowFacts, test: WindowFacts) -> None:
        """Writes what the held-out windows are, once."""
        if self.paths.window_facts.exists():
            return
        arrays = {
            f"{split}_{name}": getattr(facts, name)
            for split, facts in (("validation", validation), ("test", test))
            for name in ("num_tokens", "num_bytes", "document")
        }
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        with writing(self.paths.window_facts):
            durable_file(self.paths.window_facts, content.getvalue())

    def restore(self) -> Restored | None:
        """The newest valid commit with a checkpoint; None if there never was one.

        Whatever was written after it is removed: it will be written again, the same.

        Raises:
            RecordError: there are commits, and none of them is valid.
        """
        with writing(self.paths.root):
            self._remove_leftovers()
        numbers = self.paths.commit_numbers()
        self._next_number = max(numbers, default=-1) + 1
        for number in numbers:
            try:
                commit, restored = self._verified(number)
            except RecordError as error:
                _log.warning("%s; the commit before it is used", error)
                continue
            self._needs, self._best_step = dict(commit.needs), commit.best_step
            self._remove_what_came_after(commit, restored.evaluations)
            return restored
        if numbers:
            raise RecordError(
                f"no checkpoint under {self.paths.commits} is valid (tried {', '.join(map(str, numbers))}): restore "
                f"the folder from a copy, or remove {self.paths.root} to train this trial from the start"
            )
        return None

    def commit(
        self,
        evaluations: Sequence[Evaluation],
        checkpoint: Checkpoint | None,
        *,
        window_nats: Mapping[int, NDArray[np.float32]] | None = None,
        best: tuple[int, Mapping[str, torch.Tensor]] | None = None,
    ) -> None:
        """Commits every row so far, and a checkpoint that belongs to it.

        Args:
            evaluations: all rows, oldest first.
            checkpoint: the training state; None commits rows alone, from which a trial cannot go on.
            window_nats: [W] by step, of every row that is new.
            best: step and averaged weights of the best row, if it is new.

        Raises:
            RecordError: it could not be written; the commit before it stands.
        """
        folder = self.paths.commit(self._next_number)
        with writing(folder):
            for step, nats in (window_nats or {}).items():
                self._write_windows(step, nats)
            if best is not None:
                self._write_best(*best)
            durable_folder(folder, lambda place: self._fill_commit(place, evaluations, checkpoint))
            self._next_number += 1
            self._prune()

    def finish(self, end: TrialEnd, test_nats: NDArray[np.float32] | None) -> None:
        """Writes the test windows' losses and then how the trial ended; only the last commit is kept."""
        with writing(self.paths.end):
            if test_nats is not None:
                durable_file(self.paths.test_windows, _array_bytes(test_nats))
            durable_file(self.paths.end, end.model_dump_json(indent=2).encode())
            for number in self.paths.commit_numbers()[1:]:
                remove_folder(self.paths.commit(number))

    def _fill_commit(self, place: Path, evaluations: Sequence[Evaluation], checkpoint: Checkpoint | None) -> None:
        (place / "evaluations.arrow").write_bytes(evaluations_to_bytes(evaluations))
        if checkpoint is not None:
            (place / "checkpoint").mkdir()
            write_checkpoint(place / "checkpoint", checkpoint)
        files = {str(p.relative_to(place)): digest_of(p) for p in sorted(place.rglob("*")) if p.is_file()}
        commit = Commit(
            number=self._next_number,
            files=files,
            needs=self._needs,
            best_step=self._best_step,
            has_checkpoint=checkpoint is not None,
        )
        (place / "COMMIT.json").write_bytes(commit.to_bytes())

    def _write_windows(self, step: int, nats: NDArray[np.float32]) -> None:
        path = self.paths.window_nats(step)
        durable_file(path, _array_bytes(nats))
        self._needs[self._name(path)] = digest_of(path)

    def _write_best(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        path = self.paths.best_weights(step)
        durable_folder(path.parent, lambda place: write_tensors(place / path.name, weights))
        if self._best_step is not None:
            del self._needs[self._name(self.paths.best_weights(self._best_step))]
        self._needs[self._name(path)] = digest_of(path)
        self._best_step = step

    def _verified(self, number: int) -> tuple[Commit, Restored]:
        commit, rows = self.record.read_commit(number)
        folder = self.paths.commit(number)
        if not commit.has_checkpoint:
            raise RecordError(f"commit {folder} has rows and no checkpoint")
        for root, digests in ((folder, commit.files), (self.paths.root, commit.needs)):
            for name, digest in digests.items():
                if not digest.matches(root / name):
                    raise RecordError(f"commit {folder} is refused: {root / name} is missing, truncated or altered")
        return commit, Restored(evaluations_from_bytes(rows), read_checkpoint(folder / "checkpoint"))

    def _remove_what_came_after(self, commit: Commit, evaluations: Sequence[Evaluation]) -> None:
        for number in self.paths.commit_numbers():
            if number > commit.number:
                remove_folder(self.paths.commit(number))
        kept = {self.paths.window_nats(row.step).name for row in evaluations}
        kept |= {self.paths.window_facts.name, self.paths.test_windows.name}
        for path in self.paths.windows.glob("*"):
            if path.name not in kept:
                path.unlink()

    def _prune(self) -> None:
        readable = list(self._readable_commits())
        with_checkpoint = [number for number, commit in readable if commit.has_checkpoint][:_KEPT_CHECKPOINTS]
        oldest = min(with_checkpoint, default=0)
        kept = {number: commit for number, commit in readable if number >= oldest}
        for number in self.paths.commit_numbers():
            if number not in kept:
                remove_folder(self.paths.commit(number))
        kept_best = {str(commit.best_step) for commit in kept.values()}
        for folder in self.paths.best.glob("*"):
            if folder.name not in kept_best:
                remove_folder(folder)

    def _readable_commits(self) -> Iterator[tuple[int, Commit]]:
        for number in self.paths.commit_numbers():
            try:
                yield number, self.record.read_commit(number)[0]
            except RecordError:
                continue

    def _remove_leftovers(self) -> None:
        for folder in (self.paths.root, self.paths.commits, self.paths.best, self.paths.windows):
            remove_leftovers(folder)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.paths.root))


def _array_bytes(array: NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _changed(was: Mapping[str, Any], is_now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings that differ, as `schedule.epochs is 3 there and 4 here`."""
    for name in dict.fromkeys([*was, *is_now]):
        then, now = was.get(name), is_now.get(name)
        if isinstance(then, dict) and isinstance(now, dict):
            yield from _changed(then, now, f"{prefix}{name}.")
        elif then != now:
            yield f"{prefix}{name} is {then} there and {now} here"


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise RecordError(f"{folder} is being written by another process: wait for it, or stop it first")
        time.sleep(0.1)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
