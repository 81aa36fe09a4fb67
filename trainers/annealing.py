"""Annealed branches: what the model would be if the run ended here, and then the run as if nothing had happened.

A run at a constant rate understates every model; one that is annealed answers for one length only. Here the rate falls
to its end over some further steps on a branch, the branch is evaluated, and weights, optimizer and all that counts are
put back bit for bit: one run gives a whole curve of endpoints (as WSD does, arXiv 2404.06395, 2405.18392).

A branch reads the data and the noise that the run reads after it. It is not in checkpoints: a run that is interrupted
inside of a branch goes on from before it, and makes the branch again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from crossover.trainers.step import optimizer_step
from crossover.trainers.world import local_part

if TYPE_CHECKING:
    from crossover.trainers.training_state import TrainingState
    from crossover.trainers.trial_setup import TrialSetup

__all__ = ["branch_step", "on_a_branch"]

_PUT_BACK = ("nats", "num_tokens", "step", "tokens_seen", "learning_rate", "grad_norm")


def branch_step(setup: TrialSetup, state: TrainingState, begin: int, end: int, rate: float) -> None:
    """The next step on a branch: the rate falls linearly, and would reach its last value just after the last step.

    Args:
        setup: of the trial.
        state: on the branch.
        begin: step at which the branch began.
        end: step at which it ends.
        rate: of the run where the branch began.
    """
    left = 1 - (state.step - begin) / (end - begin)
    last = setup.config.annealing.final_fraction
    optimizer_step(setup, state, rate * (last + (1 - last) * left))


@contextmanager
def on_a_branch(state: TrainingState) -> Iterator[None]:
    """The state may be trained on; after it, it is what it was, bit for bit, but for the clock and what branches cost.

    A branch that is left by an exception has cost nothing: it will be made again.
    """
    tensors = [*state.model.weights().values(), *state.optimizer.tensors().values()]
    saved = [local_part(tensor).clone() for tensor in tensors]
    scalars: dict[str, Any] = {name: getattr(state, name) for name in _PUT_BACK}
    trained = state.clock.seconds["training"] - state.training_seconds_before
    state.begin_stretch()
    try:
        yield
        state.branch_tokens += state.tokens_seen - scalars["tokens_seen"]
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                local_part(tensor).copy_(value)
        for name, value in scalars.items():
            setattr(state, name, value)
        state.training_seconds_before = state.clock.seconds["training"] - trained
