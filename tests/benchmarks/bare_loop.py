"""A training loop as one writes it by hand, of the same parts: no record, no evaluation, no checkpoint, no Ray."""

from __future__ import annotations

import torch

from crossover.trainers import objectives
from crossover.trainers.averaging import AveragedWeights
from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Batch, Vocabulary
from crossover.trainers.device import resolve
from crossover.trainers.model.router import observed_routing
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.optim import build_optimizer, clip_gradients
from crossover.trainers.parallel import parallelize
from crossover.trainers.world import World

__all__ = ["BareLoop", "random_batch"]


class BareLoop:
    """Model, objective, optimizer and averaged weights of a configuration, and one step of them.

    Args:
        config: What is trained, and how by its execution section.
        vocabulary: Its size is the size of the head.
    """

    def __init__(self, config: TrialConfig, vocabulary: Vocabulary) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.shape = shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
        self.runtime = resolve(config.execution, self.shape.num_params_active)
        self.runtime.activate()
        self.model = Transformer(self.shape, config.regularization)
        parallelize(self.model, config.execution, self.runtime, World())
        self.objective = objectives.build(config, vocabulary)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.averages = AveragedWeights(self.model, config.averaging.horizon_fraction)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.num_steps = 0

    def step(self, batch: Batch) -> None:
        """Forward, backward, clip, update, average."""
        with self.runtime.autocast(), observed_routing(self.model) as routing:
            loss = self.objective.training_loss(self.model, batch, self.generator)
        minimized = loss.nats if routing.loss is None else loss.nats + routing.loss
        (minimized / loss.num_tokens).backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.model, self.config.optimizer.gradient_clip)
        self.optimizer.step(self.config.optimizer.learning_rate)
        self.optimizer.zero_grad()
        self.num_steps += 1
        self.averages.update(self.num_steps)
        if (counts := routing.counts) is not None:
            for router, count_E in zip(self.model.routers, counts, strict=True):
                router.rebalance(count_E)


def random_batch(config: TrialConfig, vocabulary: Vocabulary) -> Batch:
    """Uniform tokens of the configuration's batch: time does not depend on what they say."""
    size = (config.schedule.batch_size, config.data.sequence_length)
    tokens_BL = torch.randint(vocabulary.num_output_tokens, size, generator=torch.Generator().manual_seed(0))
    return Batch(tokens_BL, torch.ones(size, dtype=torch.bool), tokens_BL.numel())
