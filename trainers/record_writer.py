"""The trial's record, as it is written: rows and checkpoint committed together, atomically, while training goes on.

A commit copies the tensors and returns; a thread writes them (`commit_files.py`), one commit at a time, and what goes
wrong there is raised by the next call. All workers of a run call the same methods at the same places; worker 0 alone
locks the folder and writes what is no tensor.

What a commit relies on (windows' losses, best weights) is in place before it, and what only older commits rely on is
removed after it, so a kill at any instant leaves a newest commit with everything that it needs. Two commits with
checkpoints are kept: if the newest is truncated or altered it is refused and the one before it is used.

If checkpoints were committed and none of them is valid any more, that is an error and not a start from the beginning:
rows already reported would silently vanish.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.checkpoint import Checkpoint, read_checkpoint
from crossover.trainers.commit_files import CommitFiles, array_bytes
from crossover.trainers.durable import durable_file, remove_folder, writing
from crossover.trainers.errors import RecordError
from crossover.trainers.record import Commit, RecordPaths, TrialRecord, WindowFacts, evaluations_from_bytes
from crossover.trainers.record_start import begin_record, find_begun, lock_record, write_window_facts
from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts
from crossover.trainers.shards import owned_pieces
from crossover.trainers.snapshot import HostBuffers, Snapshot
from crossover.trainers.storage import PublishedRecord
from crossover.trainers.world import World

__all__ = ["RecordWriter", "Restored", "open_record"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_ALONE = World()
_FLUSHES_AT_ONCE = 8
_BEST = "best"


@dataclass(frozen=True)
class Restored:
    """Where a trial goes on: its rows so far, oldest first, and its checkpoint, whose tensors are still on the disk."""

    evaluations: list[Evaluation]
    checkpoint: Checkpoint


@contextmanager
def open_record(
    path: Path, facts: TrialFacts, world: World = _ALONE, published: PublishedRecord | None = None
) -> Iterator[RecordWriter]:
    """The record at `path`, for one writer at a time; starts it, or goes on with what is there.

    Leaving waits for the commit that is being written. All workers of `world` enter and leave together.

    Args:
        path: the trial's folder.
        facts: of the trial.
        world: the workers that write it together.
        published: where the record lies of which `path` is a working copy, made anew here; None: it lies at `path`.

    Raises:
        RecordError: the folder cannot be written, belongs to another trial, or is being written by another process;
            when leaving, the last commit could not be written.
    """
    writer = RecordWriter(RecordPaths(path), world, in_background=True, published=published)
    writer.open(facts)
    try:
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    finally:
        writer.release()


@dataclass
class RecordWriter:
    """Writes one trial's folder. Use `open_record`, which sees to it that there is one writer.

    Args:
        paths: the trial's folder.
        world: the workers that write it together.
        in_background: commits return when the tensors are copied; False: when they are in place.
        published: where the record lies, if `paths` is a working copy.
    """

    paths: RecordPaths
    world: World = _ALONE
    in_background: bool = False
    published: PublishedRecord | None = None
    _files: CommitFiles = field(init=False)
    _buffers: HostBuffers = field(default_factory=HostBuffers)
    _best_buffers: HostBuffers = field(default_factory=HostBuffers)
    _best_step: int | None = None
    _next_number: int = 0
    _thread: ThreadPoolExecutor | None = None
    _pending: Future[None] | None = None
    _failure: BaseException | None = None
    _lock: int | None = None

    def __post_init__(self) -> None:
        attempt = "" if self.world.size == 1 else self.world.from_main(os.urandom(4).hex())
        self._files = CommitFiles(self.paths, self.world.rank, self.world.size, attempt, self.published)

    @property
    def record(self) -> TrialRecord:
        """The same folder, for reading; `wait` before what was just committed is read."""
        return TrialRecord(self.paths.root)

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation that was committed or restored."""
        return self._best_step

    def open(self, facts: TrialFacts) -> None:
        """Locks the folder, which is made if need be, and starts the record or finds that it is started.

        Raises:
            RecordError: the folder cannot be written, is another trial's, is being written by another process, or is
                not the same one for all workers.
        """
        if self.in_background:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
            self._files.flushes = ThreadPoolExecutor(_FLUSHES_AT_ONCE, thread_name_prefix="flush")
        try:
            self._by_main(lambda: self._open(facts))
            self.world.together(self._join)
            self.world.together(lambda: find_begun(self.paths, self.world.rank))
        except BaseException:
            self.release()
            raise

    def _open(self, facts: TrialFacts) -> None:
        self._lock = lock_record(self.paths)
        if self.published is not None:
            self.published.fetch(self.paths)
        begin_record(self.paths, facts)
        self._publish()

    def _join(self) -> None:
        """Workers on machines without the first one have nothing of a record that lies in a store."""
        if self.published is not None and not self.world.is_main:
            self.published.join(self.paths)

    def _publish(self) -> None:
        if self.published is not None:
            self.published.publish(self.paths)

    def close(self) -> None:
        """Waits for the last commit.

        Raises:
            RecordError: it could not be written, and no call has said so.
        """
        if self._failure is None:
            self.wait()

    def abandon(self) -> None:
        """Waits for the last commit, for not too long if it is that of several workers, and raises nothing."""
        self._files.has_failed.set()
        if self._pending is not None and (error := self._pending.exception()) is not None:
            _log.warning("the last commit failed too: %s", error)

    def release(self) -> None:
        """Ends the thread and unlocks the folder."""
        for threads in (self._thread, self._files.flushes):
            if threads is not None:
                threads.shutdown()
        if self._lock is not None:
            os.close(self._lock)

    def write_window_facts(self, validation: WindowFacts, test: WindowFacts) -> None:
        """Writes what the held-out windows are, once."""
        self._by_main(lambda: write_window_facts(self.paths, validation, test))

    def restore(self) -> Restored | None:
        """The newest valid commit with a checkpoint, the same one on all workers; None if there never was one.

        Whatever was written after it is removed: it will be written again, the same. Its tensors are to be loaded
        before anything is committed.

        Raises:
            RecordError: there are commits, and none of them is valid.
        """
        numbers = self._by_main(self._tidied_numbers)
        self._next_number = max(numbers, default=-1) + 1
        for number in numbers:
            try:
                commit, restored = self._verified(number)
            except RecordError as error:
                if self.world.is_main:
                    _log.warning("%s; the commit before it is used", error)
                continue
            self._best_step = commit.best_step
            self._by_main(partial(self._go_on_from, commit, restored.evaluations))
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
        """Commits every row so far, and a checkpoint that belongs to it; waits for the commit before it.

        All is copied before this returns. `wait` tells when it is on the disk.

        Args:
            evaluations: all rows, oldest first.
            checkpoint: the training state, live tensors; None commits rows alone, from which a trial cannot go on.
            window_nats: [W] by step, of every row that is new.
            best: step and averaged weights of the best row, if it is new.

        Raises:
            RecordError: this commit or the one before it could not be written; what was committed before stands.
        """
        self.wait()
        number, self._next_number = self._next_number, self._next_number + 1
        snapshot = self._snapshot(number, evaluations, checkpoint, window_nats or {}, best)
        if best is not None:
            self._best_step = best[0]
        if self._thread is not None:
            self._pending = self._thread.submit(self._files.write, snapshot)
        else:
            self._or_never_again(lambda: self._files.write(snapshot))

    def wait(self) -> None:
        """Returns when what was committed is in place.

        Raises:
            RecordError: it could not be written; the commit before it stands.
        """
        self._or_never_again(self._settle)

    def finish(self, end: TrialEnd, test_nats: NDArray[np.float32] | None) -> None:
        """Writes the test windows' losses and then how the trial ended; only the last commit is kept."""
        self.wait()
        self._by_main(lambda: self._finish(end, test_nats))

    def _finish(self, end: TrialEnd, test_nats: NDArray[np.float32] | None) -> None:
        with writing(self.paths.end):
            if test_nats is not None:
                durable_file(self.paths.test_windows, array_bytes(test_nats))
            durable_file(self.paths.end, end.model_dump_json(indent=2).encode())
            for number in self.paths.commit_numbers()[1:]:
                remove_folder(self.paths.commit(number))
        self._publish()

    def _or_never_again(self, action: Callable[[], None]) -> None:
        """All workers do a part of a commit; once one has failed, rows may lack their windows: none may follow."""

        def said() -> None:
            try:
                action()
            except RecordError as error:
                if self.world.size > 1:  # a worker that is gone is not told, and would keep this from being heard
                    _log.error("worker %d: %s", self.world.rank, error)
                raise

        try:
            self.world.together(said)
        except BaseException as error:
            self._failure = error
            raise

    def _settle(self) -> None:
        """Waits for this worker's share of the last commit."""
        if self._failure is not None:
            raise self._failure
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _snapshot(
        self,
        number: int,
        evaluations: Sequence[Evaluation],
        checkpoint: Checkpoint | None,
        windows: Mapping[int, NDArray[np.float32]],
        best: tuple[int, Mapping[str, torch.Tensor]] | None,
    ) -> Snapshot:
        owned = {g: owned_pieces(t, self.world.rank) for g, t in (checkpoint.tensors if checkpoint else {}).items()}
        ours = {} if best is None else {_BEST: owned_pieces(best[1], self.world.rank)}
        copied = self._buffers.copied(owned)
        copied_best = self._best_buffers.copied(ours)
        return Snapshot(
            number=number,
            evaluations=list(evaluations),
            groups=None if checkpoint is None else copied,
            scalars={} if checkpoint is None else dict(checkpoint.scalars),
            windows=dict(windows),
            best=None if best is None else (best[0], copied_best[_BEST]),
        )

    def _tidied_numbers(self) -> list[int]:
        with writing(self.paths.root):
            self._files.remove_leftovers()
        return self.paths.commit_numbers()

    def _verified(self, number: int) -> tuple[Commit, Restored]:
        """Commit `number`, each worker having verified a share of the files."""
        commit, rows = self._by_main(lambda: self.record.read_commit(number))
        checkpoint = self.world.together(lambda: self._verified_share(commit))
        return commit, Restored(evaluations_from_bytes(rows), checkpoint)

    def _verified_share(self, commit: Commit) -> Checkpoint:
        folder = self.paths.commit(commit.number)
        if not commit.has_checkpoint:
            raise RecordError(f"commit {folder} has rows and no checkpoint")
        digests = [(folder / name, digest) for name, digest in commit.files.items()]
        digests += [(self.paths.root / name, digest) for name, digest in commit.needs.items()]
        for path, digest in digests[self.world.rank :: self.world.size]:
            if not digest.matches(path):
                raise RecordError(f"commit {folder} is refused: {path} is missing, truncated or altered")
        return read_checkpoint(folder / "checkpoint")

    def _go_on_from(self, commit: Commit, evaluations: Sequence[Evaluation]) -> None:
        self._files.go_on_from(commit)
        kept = {self.paths.window_nats(row.step).name for row in evaluations}
        kept |= {self.paths.window_facts.name, self.paths.test_windows.name}
        for path in self.paths.windows.glob("*"):
            if path.name not in kept:
                path.unlink()

    def _by_main(self, action: Callable[[], T]) -> T:
        """What `action` gives on worker 0, on all workers; its error too."""
        return self.world.from_main(cast("T", self.world.together(lambda: action() if self.world.is_main else None)))
