"""The learning rate of each step, and the steps at which a run is evaluated: pure functions of the configuration.

Evaluations lie on a geometric grid of epochs, so that a run of 3 epochs and one of 300 are both read about
equally often per doubling, and two runs of one subset and batch size are read at the same epochs whatever
their length: curves are compared without interpolation.
"""

from __future__ import annotations

import math

from crossover.trainers.config import AnnealingConfig, EvaluationConfig, OptimizerConfig, ScheduleConfig

__all__ = ["branch_ends", "evaluation_steps", "learning_rate", "num_training_steps", "weight_decay"]


def num_training_steps(config: ScheduleConfig, num_sequences: int) -> int:
    """Optimizer steps of a whole run, at least 1.

    Args:
        config: the schedule; `epochs` times the sequences of an epoch, over `batch_size`, to the nearest step.
        num_sequences: sequences of one epoch.
    """
    return max(1, round(config.epochs * num_sequences / config.batch_size))


def learning_rate(step: int, num_steps: int, config: ScheduleConfig, peak: float) -> float:
    """Rate of the update that follows `step` updates.

    Warm-up is linear and its first rate is above 0: `peak * (step + 1) / warmup_steps`. After it:
    `constant` stays; `cosine` falls over all that is left; `wsd` (warm-up, stable, decay) stays and then falls
    linearly over the last `decay_fraction` of all steps, which Hägele et al. (arXiv 2405.18392) find close to
    cosine at the same length. Both reach `final_fraction * peak` just after the last update, so a final fraction
    of 0 wastes no update. A run no longer than its warm-up only warms up.

    Args:
        step: updates done so far, from 0 to `num_steps - 1`.
        num_steps: updates of the whole run.
        config: shape of the schedule.
        peak: largest rate.
    """
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.name == "constant":
        return peak
    begin = config.warmup_steps
    if config.name == "wsd":
        begin = max(begin, num_steps - max(1, round(config.decay_fraction * num_steps)))
    if step < begin:
        return peak
    done = (step - begin) / (num_steps - begin)
    left = 1 - done if config.name == "wsd" else (1 + math.cos(math.pi * done)) / 2
    return peak * (config.final_fraction + (1 - config.final_fraction) * left)


def weight_decay(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Weight decay of the update that follows `step` updates, from the first value to the last over all updates.

    Args:
        step: updates done so far, from 0 to `num_steps - 1`.
        num_steps: updates of the whole run.
        config: both values, and the way between them.
    """
    first, last = config.weight_decay, config.final_weight_decay
    if last is None:
        return first
    done = step / max(num_steps - 1, 1)
    if config.weight_decay_schedule == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return first + (last - first) * done


def evaluation_steps(config: EvaluationConfig, steps_per_epoch: float, num_steps: int) -> tuple[int, ...]:
    """The steps after which a run is evaluated: strictly increasing, the last one always `num_steps`.

    Epochs `first_epoch * ratio**i` are rounded to the nearest step; those that fall on one step are one evaluation.

    Args:
        config: first epoch and ratio of the grid.
        steps_per_epoch: updates an epoch; may be fractional, and below 1.
        num_steps: updates of the whole run.
    """
    steps: list[int] = []
    exponent = max(0, math.floor(math.log(1 / (config.first_epoch * steps_per_epoch), config.ratio)))
    while (step := round(config.first_epoch * config.ratio**exponent * steps_per_epoch)) < num_steps:
        if step > (steps[-1] if steps else 0):
            steps.append(step)
        exponent += 1
    return (*steps, num_steps)


def branch_ends(
    annealing: AnnealingConfig, steps_per_epoch: float, num_steps: int, taken: frozenset[int]
) -> dict[int, int]:
    """Steps at which the run branches off, each with the step at which its branch ends.

    Epochs `first_epoch * ratio**i` are rounded to the nearest step; the last branch begins where the run ends. A branch
    ends a step later where its row would else have the step of another row.

    Args:
        annealing: which epochs, and how long a branch is.
        steps_per_epoch: updates an epoch.
        num_steps: updates of the whole run.
        taken: steps of the rows of the run itself.
    """
    if annealing.first_epoch is None:
        return {}
    ends: dict[int, int] = {}
    epoch = annealing.first_epoch
    begins = []
    while (begin := round(epoch * steps_per_epoch)) < num_steps:
        begins.append(max(begin, 1))
        epoch *= annealing.ratio
    for begin in sorted({*begins, num_steps}):
        end = begin + max(1, round(annealing.fraction * begin))
        while end in taken or end in ends.values():
            end += 1
        ends[begin] = end
    return ends
