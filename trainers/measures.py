"""What is measured beside the loss at each evaluation: tasks, and memorization. All of it is off by default."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Corpus, MixedCorpus, TrainingSubset, Vocabulary
from crossover.trainers.errors import ConfigError
from crossover.trainers.flops import evaluation_flops
from crossover.trainers.generation.base import check_generates, generator_of
from crossover.trainers.model.shapes import ModelShape
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives import Objective
from crossover.trainers.objectives.base import evaluating
from crossover.trainers.tasks.memorization import (
    SUFFIX_TOKENS,
    Memorization,
    MemorizationPieces,
    measure_memorization,
    memorization_pieces,
)
from crossover.trainers.tasks.multiple_choice import EncodedTask, TaskScores, encode_task, score_task
from crossover.trainers.tasks.questions import read_task
from crossover.trainers.world import World

__all__ = ["Measured", "Measures", "open_measures"]

_PIECE_MASKS = 4  # of a bound, for memorization: with fewer, their noise hides most of what membership does


@dataclass(frozen=True)
class Measured:
    """What was found at one evaluation.

    Args:
        tasks: of each tasks file.
        memorization: None where it is off.
    """

    tasks: tuple[TaskScores, ...] = ()
    memorization: Memorization | None = None

    @property
    def gaps(self) -> NDArray[np.float64] | None:
        """Gaps of the questions of all tasks, one after the other; None without tasks."""
        return np.concatenate([one.gap_Q for one in self.tasks]) if self.tasks else None

    def columns(self, best_gap_Q: Sequence[float] | None) -> dict[str, Any]:
        """Columns of the row: each question counts alike, and what was not measured has none.

        Args:
            best_gap_Q: gaps of the best evaluation before, by its mean gap; None: there is none.
        """
        return {**self._task_columns(best_gap_Q), **self._memorization_columns()}

    def _task_columns(self, best_gap_Q: Sequence[float] | None) -> dict[str, Any]:
        if not self.tasks:
            return {}
        nums = np.array([one.num_questions for one in self.tasks])
        fall, fall_se = _fall(self.gaps, best_gap_Q)

        def mean(name: str) -> float:
            return float((nums * [getattr(one, name) for one in self.tasks]).sum()) / float(nums.sum())

        def error(name: str) -> float:
            return math.hypot(*(nums * [getattr(one, name) for one in self.tasks])) / float(nums.sum())

        return {
            "task_accuracy": mean("accuracy"),
            "task_accuracy_norm": mean("accuracy_norm"),
            "task_gap": mean("gap"),
            "task_gap_se": error("gap_se"),
            "task_gap_se_mc": error("gap_se_mc"),
            "task_gap_fall": fall,
            "task_gap_fall_se": fall_se,
            "task_scores": json.dumps([one.summary() for one in self.tasks]),
        }

    def _memorization_columns(self) -> dict[str, Any]:
        found = self.memorization
        if found is None:
            return {}
        return {
            "memorization_auc": found.auc,
            "memorization_auc_se": found.auc_se,
            "reproduced_fraction": found.reproduced_fraction,
            "reproduced_held_out_fraction": found.reproduced_held_out_fraction,
        }


@dataclass(frozen=True)
class Measures:
    """What is to be measured; the default is nothing.

    Args:
        tasks: in the model's tokens.
        task_masks: Monte-Carlo masks an option, for bounds.
        pieces: of memorization; None: off.
        seed: of masks: the evaluation's.
    """

    tasks: tuple[EncodedTask, ...] = ()
    task_masks: int = 2
    pieces: MemorizationPieces | None = None
    seed: int = 0

    def measure(self, model: Transformer, objective: Objective, vocabulary: Vocabulary, world: World) -> Measured:
        """Asks a model; all workers call it together."""
        tasks = tuple(
            score_task(model, objective, task, vocabulary, num_masks=self.task_masks, seed=self.seed, world=world)
            for task in self.tasks
        )
        if self.pieces is None:
            return Measured(tasks)
        generator = generator_of(objective.name, model, vocabulary)
        with evaluating(model):
            found = measure_memorization(
                model,
                objective,
                generator,
                self.pieces,
                num_masks=_PIECE_MASKS,
                seed=self.seed,
                world=world,
            )
        return Measured(tasks, found)

    def flops(self, shape: ModelShape, objective: Objective) -> float:
        """FLOPs of measuring once: whole sequences, and for reproduction one pass a token at most, for bounds."""
        lengths = [len(option) for task in self.tasks for option in task.options]
        total = evaluation_flops(shape, objective, np.array(lengths), self.task_masks) if lengths else 0.0
        if self.pieces is not None:
            num_tokens_W = np.concatenate([self.pieces.training.num_tokens_W, self.pieces.held_out.num_tokens_W])
            passes = _PIECE_MASKS + (SUFFIX_TOKENS if objective.is_bound else 0)
            total += evaluation_flops(shape, objective, num_tokens_W, passes)
            if not objective.is_bound:
                total += evaluation_flops(shape, objective, num_tokens_W, 1)
        return total


def open_measures(config: TrialConfig, corpus: Corpus | MixedCorpus, subset: TrainingSubset) -> Measures:
    """What a configuration asks for, read and checked.

    Raises:
        TaskError: a tasks file is broken, or an option longer than the context.
        ConfigError: decisions are to be taken on tasks that are not there, or there is too little text.
    """
    evaluation = config.evaluation
    wants_gap = [
        name
        for name, value in (
            ("evaluation.decision_metric", evaluation.decision_metric),
            ("stopping.rule", config.stopping.rule),
        )
        if value == "task_gap"
    ]
    if wants_gap and not evaluation.task_paths:
        raise ConfigError(
            f"{wants_gap[0]} is task_gap, and no task is asked: set evaluation.tasks to files of questions, as "
            "tasks.jsonl (crossover data make-task makes one)"
        )
    tokenizer, tasks = corpus.tokenizer if evaluation.task_paths else None, []
    for path in evaluation.task_paths:
        assert tokenizer is not None
        encode = lambda text: tokenizer.encode([text.encode()])[0].tolist()  # noqa: E731
        tasks.append(encode_task(read_task(Path(path)), encode, config.data.sequence_length))
    pieces = None
    if evaluation.memorization_pieces:
        check_generates(config.objective.name)
        pieces = memorization_pieces(corpus, subset, evaluation.memorization_pieces, evaluation.seed)
    return Measures(tuple(tasks), evaluation.task_masks, pieces, evaluation.seed)


def _fall(gap_Q: NDArray[np.float64] | None, best_gap_Q: Sequence[float] | None) -> tuple[float, float]:
    """How far the mean gap lies below the best before, paired over questions, with its error: 0 for a new best."""
    assert gap_Q is not None
    if not np.isfinite(gap_Q).all():
        return math.nan, math.nan
    if best_gap_Q is None or gap_Q.mean() > np.mean(best_gap_Q):
        return 0.0, 0.0
    fall_Q = np.asarray(best_gap_Q) - gap_Q
    return float(fall_Q.mean()), float(fall_Q.std(ddof=1)) / math.sqrt(len(fall_Q)) if len(fall_Q) > 1 else math.nan
