"""What to train, as plain frozen values: for the page, notebooks, `--json` and `crossover train --recommended`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossover.trainers.errors import CrossoverError

__all__ = ["SCHEMA_VERSION", "Choice", "NextTrial", "Plan", "PlanError"]

SCHEMA_VERSION = 1


class PlanError(CrossoverError):
    """A plan that cannot be made from what was given."""


@dataclass(frozen=True)
class Choice:
    """One way to spend the budget.

    Args:
        objective: autoregressive, masked_diffusion, or the family's own name.
        setting: other scientific settings of it.
        params: N, active parameters in matrix products.
        epochs: passes over the unique tokens.
        tokens: D.
        flops: of training; less than the budget where more would not help.
        sparsity: total over active parameters, 1 is dense; None where the source does not say.
        loss: predicted, nats a token.
        low: lower end of its interval, which holds the law's error and one run's noise.
        high: upper end.
        level: of the interval.
        beyond: how far N, D, U or the epochs lie beyond what was measured, as a factor; 1 inside.
        widened: by what the interval was multiplied for that.
        basis: law, or measured.
        source: where it comes from.
        config_hash: of the configuration that it rests on, in a study.
    """

    objective: str
    setting: str
    params: float
    epochs: float
    tokens: float
    flops: float
    sparsity: float | None
    loss: float
    low: float
    high: float
    level: float
    beyond: float
    widened: float
    basis: Literal["law", "measured"]
    source: str
    config_hash: str | None = None


@dataclass(frozen=True)
class NextTrial:
    """A trial that would narrow the answer.

    Args:
        narrows: expected share by which it shortens the interval of the question.
        narrows_per_flop: the same over its FLOPs.
        question: what becomes narrower.
    """

    objective: str
    params: float
    epochs: float
    unique_tokens: float
    flops: float
    narrows: float
    narrows_per_flop: float
    question: str


@dataclass(frozen=True)
class Plan:
    """The best choice and what it rests on.

    Args:
        runner_up: the best of another objective or setting; None where there is no other.
        probability_best: share of the draws in which the best stays ahead of the runner-up; None where their losses
            cannot be compared.
        decided_by: why the best is ahead, in one sentence.
        changes: what would change the answer.
        next_trials: those that narrow it most, an expected share of the interval per FLOP, the best first.
    """

    unique_tokens: float
    flops: float
    best: Choice
    runner_up: Choice | None
    probability_best: float | None
    decided_by: str
    changes: tuple[str, ...]
    next_trials: tuple[NextTrial, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The documented schema of `crossover plan --json`."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
