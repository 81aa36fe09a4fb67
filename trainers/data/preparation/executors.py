"""Where the jobs of a preparation run: in this process, or in several.

An executor is one method; the same jobs give the same files wherever they run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from crossover.trainers.data.sources import UnfinishedError

__all__ = ["Executor", "Here", "Processes", "default_workers"]

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_BYTES = 240 << 20  # an estimate of the most that a worker holds: 16 MB shards, 32 MB runs


class Executor(Protocol):
    """Runs jobs."""

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """What `function` gives for each job, in the order in which they end; the first error ends it."""
        ...


class Here:
    """One job after the other, in this process."""

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Executor`."""
        return map(function, jobs)


class Processes:
    """Several processes of this machine, forked from a server that has loaded nothing but what the jobs need.

    Args:
        num_workers: how many.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["crossover.trainers.data.preparation.shard_jobs"])

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Executor`."""
        pool = ProcessPoolExecutor(self._num_workers, self._context, initializer=_begin_worker)
        try:
            yield from self._results(pool, function, jobs)
        except BrokenProcessPool:
            raise UnfinishedError(
                "a process that prepared the corpus was killed (often for want of memory: lower --workers)"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _results(
        self, pool: ProcessPoolExecutor, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[Result]:
        waiting = iter(jobs)
        running: set[Future[Result]] = set()
        while True:
            while len(running) < 2 * self._num_workers and (job := next(waiting, None)) is not None:
                running.add(pool.submit(function, job))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def default_workers(memory_bytes: int) -> int:
    """Processes that the machine's cores and so much memory allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, memory_bytes // WORKER_BYTES - 1))


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to its parent, ends with it, and does not share its core with threads of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
