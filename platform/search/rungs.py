"""Where trials are compared: a geometric grid of epochs, each rung at an evaluation.

A rung between two evaluations would compare old values, so every rung lies at the evaluation that is nearest to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DEFAULT_RUNGS", "Horizon", "num_useful_rungs", "rung_epochs"]

DEFAULT_RUNGS = 3
"""Rungs below the last epoch where no first one is set: with eta = 3 the first lies at a 27th of the epochs."""


@dataclass(frozen=True)
class Horizon:
    """How far the trials of a cohort can go, and when they are evaluated.

    Args:
        unique_tokens: tokens of an epoch.
        max_epochs: epochs of the longest trial.
        first_evaluation: epochs to the first evaluation.
        evaluation_ratio: ratio of the epochs of two evaluations in a row.
    """

    unique_tokens: int
    max_epochs: float
    first_evaluation: float
    evaluation_ratio: float

    def tokens(self, epochs: float) -> int:
        """Tokens seen after so many epochs, to the nearest token."""
        return max(1, round(epochs * self.unique_tokens))

    def evaluation_near(self, epochs: float) -> float:
        """Epochs of the evaluation nearest to so many epochs, by ratio."""
        exponent = round(math.log(epochs / self.first_evaluation, self.evaluation_ratio))
        return self.first_evaluation * self.evaluation_ratio ** max(0, exponent)


def num_useful_rungs(size: int, eta: int) -> int:
    """Rungs after which one of `size` configurations is left: more cannot decide anything."""
    rungs = 0
    while size > 1:
        size, rungs = math.ceil(size / eta), rungs + 1
    return rungs


def rung_epochs(horizon: Horizon, eta: int, first_epoch: float | None, at_most: int | None = None) -> tuple[float, ...]:
    """Epochs of the rungs, increasing, all below the last epoch.

    Args:
        horizon: of the cohort.
        eta: ratio of the epochs of two rungs in a row.
        first_epoch: epochs of the first rung; None: counted from the last epoch downwards.
        at_most: rungs at most: the first ones of a grid that was set, the last ones of one that was not.
    """
    if first_epoch is None:
        wanted = DEFAULT_RUNGS if at_most is None else min(DEFAULT_RUNGS, at_most)
        grid = [horizon.max_epochs / eta**power for power in range(wanted, 0, -1)]
    else:
        count = max(0, math.ceil(math.log(horizon.max_epochs / first_epoch, eta) - 1e-9))
        grid = [first_epoch * eta**power for power in range(count if at_most is None else min(count, at_most))]
    seen = [horizon.evaluation_near(epochs) for epochs in grid if epochs >= horizon.first_evaluation]
    return tuple(dict.fromkeys(epochs for epochs in seen if epochs < horizon.max_epochs))
