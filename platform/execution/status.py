"""Where a study stands, from its files alone: while it runs in another process, and after a kill."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from crossover.platform.execution.decisions import attempts
from crossover.platform.execution.display import duration, render
from crossover.platform.execution.lock import lock_holder
from crossover.platform.execution.view import StudyView, TrialView
from crossover.platform.search.budget import attempt_seconds
from crossover.platform.storage.views import StudyPlace
from crossover.platform.study import read_frozen
from crossover.trainers.errors import CrossoverError

__all__ = ["print_status", "study_status"]

_FILE_WIDTH = 180
_WIDTH_FOR_REASONS = 118
_WIDTH_FOR_IDS = 136


def study_status(directory: str | Path, width: int = _FILE_WIDTH) -> RenderableType:
    """The study's strata, trials and driver, to be printed.

    Args:
        directory: the study's folder, or its URI in an object store.
        width: columns there are. Where they are few, a trial's reason is one word, and its id is left out (`crossover
            results` has it).

    Raises:
        CrossoverError: the folder holds no study.
    """
    directory = StudyPlace.of(directory).path
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
    parts = [render(view), Text("")]
    if view.trials:
        parts += [_trials(view, width), Text("")]
    return Group(*parts, Text(f"{_driver(view, holder)}; {spent}"))


def _trials(view: StudyView, width: int) -> Table:
    """Every trial that was made, one line each."""
    table = Table(box=None, pad_edge=False)
    with_id, with_reason = width >= _WIDTH_FOR_IDS, width >= _WIDTH_FOR_REASONS
    if with_id:
        table.add_column("id", no_wrap=True)
    table.add_column("trial", overflow="fold")
    for name in ("state", "epoch", "best bits/byte"):
        table.add_column(name, no_wrap=True, justify="left" if name == "state" else "right")
    table.add_column("why it ended or waits", overflow="fold")
    for trial in view.trials:
        cells = (Text(trial.name), trial.standing, _epoch(trial), _best(trial))
        why = Text(trial.why if with_reason else trial.stop_reason or "")
        table.add_row(*((trial.trial_id,) if with_id else ()), *cells, why)
    return table


def _epoch(trial: TrialView) -> str:
    return "-" if trial.epoch is None else f"{trial.epoch:.1f}"


def _best(trial: TrialView) -> str:
    if trial.best is None:
        return "-"
    return f"{trial.best:.4f}" + ("" if trial.best_se is None else f" ± {trial.best_se:.4f}")


def _driver(view: StudyView, holder: str | None) -> str:
    if holder is not None:
        return f"being run by {holder}"
    if view.finished is not None:
        return f"finished: {view.finished}"
    return "not running: the same `crossover run` goes on with it"


def print_status(directory: str | Path, console: Console | None = None) -> None:
    """Prints `study_status`; in a file or a pipe lines are as long as they need to be."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(study_status(directory, console.width))
