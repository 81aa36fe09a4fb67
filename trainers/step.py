"""One optimizer step of all workers."""

from __future__ import annotations

from functools import partial

import torch

from crossover.trainers.data import Batch
from crossover.trainers.model.router import observed_routing
from crossover.trainers.optim import clip_gradients
from crossover.trainers.schedule import learning_rate, weight_decay
from crossover.trainers.training_state import TrainingState, derived_seed
from crossover.trainers.trial_setup import TrialSetup

__all__ = ["optimizer_step", "train_step"]


def train_step(setup: TrialSetup, state: TrainingState) -> None:
    """The next step of the run, whose noise and dropout are those of its number."""
    config = setup.config
    rate = learning_rate(state.step, setup.num_steps, config.schedule, config.optimizer.learning_rate)
    optimizer_step(setup, state, rate)
    state.averages.update(state.step)


def optimizer_step(setup: TrialSetup, state: TrainingState, rate: float) -> None:
    """One update of the weights at this learning rate; the averages stay as they are."""
    config, step = setup.config, state.step
    batch = setup.subset.batch(step * config.schedule.batch_size, config.schedule.batch_size, config.seed)
    for rows in setup.micro_batches:
        minimized, nats = state.parallel(partial(_forward, setup, state, batch, rows))
        torch.autograd.backward(minimized / batch.num_tokens)
        state.nats += nats.detach()
    state.grad_norm = clip_gradients(state.model, config.optimizer.gradient_clip)
    state.learning_rate = rate
    state.optimizer.step(rate, weight_decay(step, setup.num_steps, config.optimizer))
    state.optimizer.zero_grad()
    state.rebalance_experts(setup.world)

    state.step += 1
    state.tokens_seen += batch.num_tokens
    state.num_tokens += batch.num_tokens


def _forward(setup: TrialSetup, state: TrainingState, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """What is minimized, and the nats in it, of some rows of the global batch, summed over tokens.

    Noise is drawn for all of the batch, dropout for these rows.
    """
    seed, step = setup.config.seed, state.step
    noise = torch.Generator().manual_seed(derived_seed(seed, "noise", step))
    torch.manual_seed(derived_seed(seed, "dropout" if rows.start == 0 else f"dropout from row {rows.start}", step))
    with setup.runtime.autocast(), observed_routing(state.model) as routing:
        loss = setup.objective.training_loss(state.model, batch, noise, rows)
    if (counts := routing.counts) is not None:
        state.expert_counts = counts if state.expert_counts is None else state.expert_counts + counts
    auxiliary = [term for term in (loss.auxiliary_nats, routing.loss) if term is not None]
    return sum(auxiliary, loss.nats), loss.nats
