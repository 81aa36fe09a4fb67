"""`evaluate_tasks`: a trained model against tasks files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossover.trainers.tasks.multiple_choice import TaskScores, encode_task, score_task
from crossover.trainers.tasks.questions import read_task
from crossover.trainers.trained import TrainedModel

__all__ = ["evaluate_tasks"]


def evaluate_tasks(
    trained: TrainedModel, paths: Sequence[Path], num_masks: int = 32, seed: int = 0
) -> list[TaskScores]:
    """Scores of a model on tasks files; all of them are read and checked before anything is scored.

    Args:
        trained: the model.
        paths: of the files.
        num_masks: Monte-Carlo masks an option of several tokens, for bounds.
        seed: of the masks.

    Raises:
        TaskError: a file is broken, or an option is longer than the model's context.
    """
    tasks = [encode_task(read_task(path), trained.encode, trained.context_tokens) for path in paths]
    with trained.runtime.autocast():
        return [
            score_task(trained.model, trained.objective, task, trained.vocabulary, num_masks=num_masks, seed=seed)
            for task in tasks
        ]
