"""What changes while a trial trains, and its checkpoint.

No generator's state is saved: the noise of a step is drawn from a seed that is derived from the trial's seed, its
purpose and the step's number. So a run that goes on from any step draws what the undisturbed run would have drawn, at
any world size, and an evaluation in between disturbs nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from crossover.trainers.averaging import AveragedWeights
from crossover.trainers.checkpoint import Checkpoint, load_into, shapes_of
from crossover.trainers.errors import RecordError
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.optim import TrainingOptimizer, build_optimizer
from crossover.trainers.parallel import Parallel, parallelize
from crossover.trainers.run import StopRequest
from crossover.trainers.trial_setup import TrialSetup
from crossover.trainers.world import World

__all__ = ["Clock", "TrainingState", "derived_seed", "new_state"]

Activity = Literal["training", "evaluation", "commit"]


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A seed of its own for each purpose and step: 63 bits of a hash."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass
class Clock:
    """Seconds of work by activity, over all legs. It is told and never asked by what trains."""

    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "commit": 0.0})
    _since: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> float:
        """Seconds of work, all activities."""
        return sum(self.seconds.values())

    def start(self) -> None:
        """What happened since the last lap is no work: start-up."""
        self._since = time.monotonic()

    def lap(self, activity: Activity) -> None:
        """What happened since the last lap was this."""
        now = time.monotonic()
        self.seconds[activity] += now - self._since
        self._since = now


@dataclass
class TrainingState:
    """What changes while a trial trains.

    Args:
        model: raw weights, in training mode; DTensors where there are several workers.
        parallel: what calls a function with the gathered weights at hand.
        optimizer: its state.
        averages: averaged weights.
        nats: float64 scalar on the device, training loss of this worker's rows summed since the last evaluation.
        num_tokens: tokens trained since the last evaluation, by all workers.
        training_seconds_before: training seconds up to the last evaluation.
        step: optimizer steps done.
        tokens_seen: tokens trained, repeats counted.
        expert_counts: choices of each expert in the step that is under way [layers, experts], of this worker; None
            before a step and of a dense model.
        choices: what the evaluation before saw the routers choose first; None before it and of a dense model.
        branch_tokens: tokens trained on annealed branches that are over, which `tokens_seen` does not count.
        learning_rate: of the last step.
        grad_norm: of the last gradient, before clipping; None before the first step.
        ending: why the trial ends, once that was decided by somebody else than its own history.
        clock: seconds of work.
        best_gaps: gap of each question of the tasks at the evaluation where it was largest, by branch.
    """

    model: Transformer
    parallel: Parallel
    optimizer: TrainingOptimizer
    averages: AveragedWeights
    nats: torch.Tensor
    num_tokens: int = 0
    training_seconds_before: float = 0.0
    step: int = 0
    tokens_seen: int = 0
    branch_tokens: int = 0
    learning_rate: float = 0.0
    grad_norm: torch.Tensor | None = None
    ending: StopRequest | None = None
    expert_counts: torch.Tensor | None = None
    choices: torch.Tensor | None = None
    clock: Clock = field(default_factory=Clock)
    best_gaps: dict[str, list[float]] = field(default_factory=dict)

    def total_nats(self, world: World) -> float:
        """Training loss since the last evaluation, summed over rows and workers, who call it together."""
        return world.sum(self.nats.cpu()).item()

    def mean_loss(self, world: World) -> float | None:
        """Mean training loss since the last evaluation, nats per token; None where nothing was trained."""
        return self.total_nats(world) / self.num_tokens if self.num_tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """Training throughput since the last evaluation; None where nothing was trained."""
        seconds = self.clock.seconds["training"] - self.training_seconds_before
        return self.num_tokens / seconds if self.num_tokens and seconds > 0 else None

    def begin_stretch(self) -> None:
        """An evaluation was done: means start anew."""
        self.nats = torch.zeros_like(self.nats)
        self.num_tokens = 0
        self.training_seconds_before = self.clock.seconds["training"]

    def rebalance_experts(self, world: World) -> None:
        """Tells every router how often the global batch of this step chose each expert. All workers call it."""
        if self.expert_counts is None:
            return
        counts = world.sum_on_device(self.expert_counts)
        for router, count_E in zip(self.model.routers, counts, strict=True):
            router.rebalance(count_E)
        self.expert_counts = None

    def averaged_weights(self) -> Mapping[str, torch.Tensor]:
        """The weights that decisions are taken on, by name: the raw ones where averaging is off."""
        return self.model.weights() | self.averages.tensors()

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copies whole `weights` into the model, a worker of several its shards.

        Raises:
            RecordError: they are of another model.
        """
        parameters = self.model.weights()
        if shapes_of(parameters) != shapes_of(weights):
            raise RecordError("the saved weights are of another model: give this run another folder")
        for name, parameter in parameters.items():
            load_into(parameter, weights, name)

    def checkpoint(self, world: World) -> Checkpoint:
        """Everything from which to go on, at this or another world size. All workers call it together."""
        return Checkpoint(
            tensors={
                "model": self.model.weights(),
                "averages": self.averages.tensors(),
                "optimizer": self.optimizer.tensors(),
                **({} if self.choices is None else {"routing": {"choices": self.choices}}),
            },
            scalars={
                "step": self.step,
                "tokens_seen": self.tokens_seen,
                "branch_tokens": self.branch_tokens,
                "nats": world.gather(self.nats.item()),
                "num_tokens": self.num_tokens,
                "training_seconds_before": self.training_seconds_before,
                "learning_rate": self.learning_rate,
                "grad_norm": None if self.grad_norm is None else self.grad_norm.item(),
                "ending": None if self.ending is None else [self.ending.reason, self.ending.evidence],
                "seconds": self.clock.seconds,
                "best_gaps": self.best_gaps,
            },
        )

    def restore(self, checkpoint: Checkpoint, world: World) -> None:
        """Goes on from `checkpoint`: bit for bit, at the world size that wrote it.

        Raises:
            RecordError: it is of another model or optimizer, or lacks something.
        """
        try:
            self.set_weights(checkpoint.tensors["model"])
            self.averages.load_tensors(checkpoint.tensors["averages"])
            self.optimizer.load_tensors(checkpoint.tensors["optimizer"])
            if "routing" in checkpoint.tensors:
                self.choices = checkpoint.tensors["routing"]["choices"].clone()
            self._restore_scalars(checkpoint.scalars, world)
        except KeyError as error:
            raise RecordError(f"the checkpoint has no {error}: it was written by another version") from None

    def _restore_scalars(self, scalars: Mapping[str, Any], world: World) -> None:
        self.step = scalars["step"]
        self.tokens_seen = scalars["tokens_seen"]
        self.branch_tokens = scalars.get("branch_tokens", 0)
        self.nats = torch.full_like(self.nats, _own_share(scalars["nats"], world))
        self.num_tokens = scalars["num_tokens"]
        self.training_seconds_before = scalars["training_seconds_before"]
        self.learning_rate = scalars["learning_rate"]
        self.grad_norm = None if scalars["grad_norm"] is None else torch.tensor(scalars["grad_norm"])
        self.ending = None if scalars["ending"] is None else StopRequest(*scalars["ending"])
        self.clock = Clock(dict(scalars["seconds"]))
        self.best_gaps = dict(scalars.get("best_gaps", {}))


def new_state(setup: TrialSetup) -> TrainingState:
    """The state before the first step; initial weights are drawn from the trial's seed, on the CPU."""
    config, device = setup.config, setup.runtime.device
    torch.manual_seed(derived_seed(config.seed, "initial weights"))
    model = Transformer(setup.shape, config.regularization)
    model.train()
    parallel = parallelize(model, config.execution, setup.runtime, setup.world)
    return TrainingState(
        model=model,
        parallel=parallel,
        optimizer=build_optimizer(model, config.optimizer),
        averages=AveragedWeights(model, config.averaging.horizon_fraction),
        nats=torch.zeros((), dtype=torch.float64, device=device),
    )


def _own_share(nats: list[float], world: World) -> float:
    """Of sums by rank: its own, or after a change of the world size all for the main worker."""
    if len(nats) == world.size:
        return nats[world.rank]
    return math.fsum(nats) if world.is_main else 0.0
