"""`crossover evaluate`: a checkpoint against tasks files, as a table or as JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crossover.trainers.tasks.evaluation import evaluate_tasks
from crossover.trainers.tasks.multiple_choice import TaskScores
from crossover.trainers.tasks.questions import TaskError
from crossover.trainers.trained import TrainedModel, open_model

__all__ = ["evaluate_checkpoint"]


def evaluate_checkpoint(
    path: Path, tasks: Sequence[Path], num_masks: int, seed: int, *, as_json: bool, console: Console | None = None
) -> None:
    """Scores the checkpoint at `path` on tasks files, and prints what came out.

    Args:
        path: a trial's folder, or that of a run.
        tasks: files of questions.
        num_masks: Monte-Carlo masks an option of several tokens, for bounds.
        seed: of the masks.
        as_json: print JSON.
        console: where to print; by default standard output.

    Raises:
        CrossoverError: there is no checkpoint, no tasks file, or one of them is broken.
    """
    if not tasks:
        raise TaskError("no tasks file was given: name one with --tasks (crossover data make-task makes one)")
    out = console or Console(highlight=False)
    trained = open_model(path)
    start = time.perf_counter()
    scores = evaluate_tasks(trained, tasks, num_masks, seed)
    seconds = time.perf_counter() - start
    if as_json:
        out.print_json(json.dumps(_content(trained, scores, num_masks, seed, seconds)))
        return
    out.print(_table(scores))
    num = sum(one.num_questions for one in scores)
    kind = f"bounds (ELBO) by {num_masks} masks" if trained.objective.is_bound else "exact likelihoods"
    out.print(f"{trained.objective.name}, {kind}: {num:,} questions in {seconds:.1f} s, {num / seconds:,.0f} a second")


def _content(
    trained: TrainedModel, scores: Sequence[TaskScores], num_masks: int, seed: int, seconds: float
) -> dict[str, object]:
    return {
        "checkpoint": str(trained.path),
        "trial_id": trained.name,
        "objective": trained.objective.name,
        "is_bound": trained.objective.is_bound,
        "num_masks": num_masks if trained.objective.is_bound else None,
        "seed": seed,
        "seconds": seconds,
        "tasks": [one.summary() for one in scores],
    }


def _table(scores: Sequence[TaskScores]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    for name in ("questions", "accuracy", "by length", "gap, nats", "its masks' error"):
        table.add_column(name, justify="right")
    for one in scores:
        table.add_row(
            one.name,
            f"{one.num_questions:,}",
            _with_error(one.accuracy, one.accuracy_se),
            _with_error(one.accuracy_norm, one.accuracy_norm_se),
            _with_error(one.gap, one.gap_se),
            f"{one.gap_se_mc:.3f}" if one.gap_se_mc else "exact",
        )
    return table


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}" if math.isnan(error) else f"{value:.3f} ± {error:.3f}"
