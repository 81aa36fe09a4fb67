"""Multiple choice by likelihood: accuracy, length-normalised accuracy, and the gap to the best wrong option.

The gap, log p(right) - log p(best wrong), is a loss-free measure: it can go on growing while the validation loss rises,
for a model that grows overconfident still tells right from wrong (arXiv 2511.03276). For a bound all of these compare
bounds, estimated by Monte Carlo; the error of that stands beside each.

Shape suffixes: Q questions, O options of all questions, N draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.data import Vocabulary
from crossover.trainers.objectives import LanguageModel, Objective
from crossover.trainers.tasks.likelihood import Continuation, ContinuationNats, continuation_nats
from crossover.trainers.tasks.questions import Task, TaskError
from crossover.trainers.world import World

__all__ = ["EncodedTask", "TaskScores", "encode_task", "score_task"]

_DRAWS = 64  # of what Monte-Carlo errors do to an accuracy
_ALONE = World()


@dataclass(frozen=True)
class EncodedTask:
    """A task in the tokens of a model.

    Args:
        task: the questions.
        options: their options, question by question.
        question_O: number of the question of each option.
        num_bytes_O: bytes of its ending.
        first_Q: place of the first option of each question.
    """

    task: Task
    options: tuple[Continuation, ...]
    question_O: NDArray[np.int64]
    num_bytes_O: NDArray[np.int64]
    first_Q: NDArray[np.int64]


@dataclass(frozen=True)
class TaskScores:
    """What a model makes of a task. Errors are over questions; NaN where there is one.

    Args:
        name: of the task.
        num_questions: questions Q.
        accuracy: share of questions whose right ending is the likeliest.
        accuracy_se: its standard error.
        accuracy_se_mc: what of it is Monte Carlo alone; 0 for an exact likelihood.
        accuracy_norm: the same by likelihood a byte of the ending.
        accuracy_norm_se: its standard error.
        gap: mean of log p(right) - log p(best wrong), nats a question.
        gap_se: its standard error.
        gap_se_mc: what of it is Monte Carlo alone.
        gap_Q: the gap of each question.
        num_passes: sequences that went through the model.
    """

    name: str
    num_questions: int
    accuracy: float
    accuracy_se: float
    accuracy_se_mc: float
    accuracy_norm: float
    accuracy_norm_se: float
    gap: float
    gap_se: float
    gap_se_mc: float
    gap_Q: NDArray[np.float64]
    num_passes: int

    def summary(self) -> dict[str, Any]:
        """The numbers without the questions, for JSON; what is not finite is None."""
        values = {name: value for name, value in vars(self).items() if name != "gap_Q"}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


def encode_task(task: Task, encode: Callable[[str], Sequence[int]], context_tokens: int) -> EncodedTask:
    """A task for a model that reads so many tokens; of a context too long its end is kept.

    Raises:
        TaskError: an option alone is longer than the context; the message names its line.
    """
    options: list[Continuation] = []
    question_O, num_bytes_O, first_Q = [], [], []
    for number, question in enumerate(task.questions):
        context = encode(question.context)
        first_Q.append(len(options))
        for place, ending in enumerate(question.endings):
            tokens = encode(question.separator + ending)
            if len(tokens) > context_tokens:
                raise TaskError(
                    f"tasks file {task.path}, line {question.line}: ending {place} has {len(tokens)} tokens, and the "
                    f"model reads {context_tokens} (data.sequence_length): shorten it, or take a model with a longer "
                    "context"
                )
            room = context_tokens - len(tokens)
            options.append(Continuation(context[max(0, len(context) - room) :], tokens))
            question_O.append(number)
            num_bytes_O.append(len(ending.encode()))
    return EncodedTask(task, tuple(options), np.array(question_O), np.array(num_bytes_O), np.array(first_Q))


def score_task(
    model: LanguageModel,
    objective: Objective,
    encoded: EncodedTask,
    vocabulary: Vocabulary,
    *,
    num_masks: int,
    seed: int,
    world: World = _ALONE,
) -> TaskScores:
    """Scores every option of every question; see `continuation_nats` for the arguments."""
    found = continuation_nats(
        model, objective, encoded.options, vocabulary, num_masks=num_masks, seed=seed, world=world
    )
    return _scores(encoded, found, seed)


def _scores(encoded: EncodedTask, found: ContinuationNats, seed: int) -> TaskScores:
    per_byte_O = found.nats_O / encoded.num_bytes_O
    gap_Q, gap_se_Q = _gaps(encoded, found)
    accuracy, accuracy_se = _mean(_is_right(encoded, found.nats_O))
    accuracy_norm, accuracy_norm_se = _mean(_is_right(encoded, per_byte_O))
    gap, gap_se = _mean(gap_Q)
    num = len(encoded.task.questions)
    return TaskScores(
        name=encoded.task.name,
        num_questions=num,
        accuracy=accuracy,
        accuracy_se=accuracy_se,
        accuracy_se_mc=_accuracy_error(encoded, found, seed),
        accuracy_norm=accuracy_norm,
        accuracy_norm_se=accuracy_norm_se,
        gap=gap,
        gap_se=gap_se,
        gap_se_mc=float(np.sqrt((gap_se_Q**2).sum())) / num,
        gap_Q=gap_Q,
        num_passes=found.num_passes,
    )


def _mean(values_Q: NDArray[np.float64]) -> tuple[float, float]:
    num = len(values_Q)
    return float(values_Q.mean()), float(values_Q.std(ddof=1)) / math.sqrt(num) if num > 1 else math.nan


def _is_right(encoded: EncodedTask, cost_O: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whether the right option costs least; the first of equals is taken, and what is not finite is wrong."""
    right_Q = encoded.first_Q + _labels(encoded)
    is_right_Q = (_cheapest(encoded, cost_O) == right_Q) & np.isfinite(cost_O[right_Q])
    return np.asarray(is_right_Q, dtype=np.float64)


def _gaps(encoded: EncodedTask, found: ContinuationNats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nats of the best wrong option less those of the right one, and the Monte-Carlo error of that."""
    right_Q = encoded.first_Q + _labels(encoded)
    wrong_nats_O = found.nats_O.copy()
    wrong_nats_O[right_Q] = math.inf
    wrong_Q = _cheapest(encoded, wrong_nats_O)
    gap_Q = found.nats_O[wrong_Q] - found.nats_O[right_Q]
    return gap_Q, np.hypot(found.se_O[wrong_Q], found.se_O[right_Q])


def _accuracy_error(encoded: EncodedTask, found: ContinuationNats, seed: int) -> float:
    """Monte-Carlo error of the accuracy: how often each question would turn out otherwise, by normal errors."""
    if not found.se_O.any():
        return 0.0
    random = np.random.default_rng(seed)
    right_NQ = np.stack(
        [_is_right(encoded, found.nats_O + found.se_O * random.standard_normal(len(found.se_O))) for _ in range(_DRAWS)]
    )
    share_Q = right_NQ.mean(axis=0)
    return float(np.sqrt((share_Q * (1 - share_Q)).sum())) / len(share_Q)


def _cheapest(encoded: EncodedTask, cost_O: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of the option of each question that costs least."""
    ends = [*encoded.first_Q[1:], len(cost_O)]
    return np.array(
        [start + int(np.argmin(cost_O[start:end])) for start, end in zip(encoded.first_Q, ends, strict=True)]
    )


def _labels(encoded: EncodedTask) -> NDArray[np.int64]:
    return np.array([question.label for question in encoded.task.questions])
