"""Where a study stands, from its files alone: while it runs in another process, and after a kill."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from crossover.platform.execution.decisions import attempts
from crossover.platform.execution.display import duration, render, trials_table
from crossover.platform.execution.lock import lock_holder
from crossover.platform.execution.view import StudyView
from crossover.platform.search.budget import attempt_seconds
from crossover.platform.study import read_frozen
from crossover.trainers.errors import CrossoverError

__all__ = ["print_status", "study_status"]

_FILE_WIDTH = 180


def study_status(directory: Path) -> RenderableType:
    """The study's strata, trials and driver, to be printed.

    Raises:
        CrossoverError: the folder holds no study.
    """
    if not (directory / "study.yaml").is_file():
        raise CrossoverError(
            f"{directory} is no study's folder (there is no study.yaml in it): give the folder that `crossover run` "
            "made, <storage>/<name of the study>"
        )
    holder = lock_holder(directory)
    history = attempts(directory)
    view = StudyView.of(read_frozen(directory).study)
    view.replay((line for lines in history for line in lines), directory, driver_alive=holder is not None)
    spent = f"{len(history)} attempt{'s' * (len(history) != 1)}, {duration(attempt_seconds(history))} so far"
    return Group(render(view), Text(""), trials_table(view), Text(""), Text(f"{_driver(view, holder)}; {spent}"))


def _driver(view: StudyView, holder: str | None) -> str:
    if holder is not None:
        return f"being run by {holder}"
    if view.finished is not None:
        return f"finished: {view.finished}"
    return "not running: the same `crossover run` goes on with it"


def print_status(directory: Path, console: Console | None = None) -> None:
    """Prints `study_status`; in a file or a pipe lines are as long as they need to be."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(study_status(Path(directory)))
