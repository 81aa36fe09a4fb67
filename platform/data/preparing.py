"""Prepares a corpus for a person: progress on the screen, and the place where the jobs run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from crossover.trainers.data.manifest import Manifest
from crossover.trainers.data.preparation.executors import Executor, Here, Processes
from crossover.trainers.data.prepare import prepare_corpus

__all__ = ["prepare"]


def prepare(
    sources: Sequence[str], output: Path, *, workers: int | None = None, on_ray: bool = False, **settings: Any
) -> Manifest:
    """Prepares a corpus, with a progress bar where there is a terminal.

    Args:
        sources: as `prepare_corpus` takes them.
        output: folder to make.
        workers: processes; None: as many as are worth it, or all that Ray has.
        on_ray: run the jobs by Ray Data.
        settings: fields of `CorpusSettings`.

    Raises:
        CorpusError: see `prepare_corpus`.
    """
    with _bar() as progress, _executor(workers, on_ray) as executor:
        return prepare_corpus(sources, output, executor=executor, progress=progress, **settings)


@contextmanager
def _executor(workers: int | None, on_ray: bool) -> Iterator[Executor | None]:
    if on_ray:
        from crossover.platform.data.ray_jobs import ray_executor

        with ray_executor(workers) as executor:
            yield executor
    elif workers is None:
        yield None
    else:
        yield Here() if workers == 1 else Processes(workers)


class _Bar:
    """One line for each activity."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, activity: str, done: int, total: int) -> None:
        if activity not in self._tasks:
            self._tasks[activity] = self._progress.add_task(activity, total=total)
        self._progress.update(self._tasks[activity], completed=done)


@contextmanager
def _bar() -> Iterator[_Bar]:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield _Bar(progress)
