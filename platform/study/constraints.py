"""What a configuration may cost, and what it costs: counted before it runs, so that none starts that may not.

Constraints are written as people say them: `constraints: {num_params: <= 5M, train_flops: <= 1e13}`. Parameters and
FLOPs are counted exactly. Memory is an estimate of the tensors that a worker holds at once, in float32 unless the
precision is set to bfloat16; what the process, its libraries and the allocator take comes on top. A constraint is on
one unsharded worker; how many workers share a trial is decided by the same estimate.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from crossover.trainers.config import TrialConfig

if TYPE_CHECKING:
    from crossover.trainers.model.shapes import ModelShape
    from crossover.trainers.objectives import Objective

__all__ = ["CheckpointSize", "Constraints", "Cost", "Memory", "checkpoint_size", "cost_of", "memory_of"]

_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "B": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_BOUND = re.compile(r"(<=|>=)\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s?([A-Za-z]*)")
_COMPARE = {"<=": operator.le, ">=": operator.ge}
_MAX_CHARACTERS = 60

_FLOAT32 = 4
_BFLOAT16 = 2


def _bounds(text: str) -> list[tuple[str, float]]:
    found = []
    for part in re.split(r"\s*(?:,|\band\b)\s*", text.strip()):
        match = _BOUND.fullmatch(part)
        if match is None or match[3] not in _UNITS:
            raise ValueError(
                f"{part[:_MAX_CHARACTERS]!r} is no bound: write <= or >= and a number, such as '<= 5M', '<= 1e13', "
                "'<= 8GiB' or '>= 1M, <= 5M'"
            )
        found.append((match[1], float(match[2].replace("_", "")) * _UNITS[match[3]]))
    return found


def _text(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
        raise ValueError(f"{str(value)[:_MAX_CHARACTERS]!r} is no bound: write <= or >= and a number, such as '<= 5M'")
    return value


def _readable(text: str) -> str:
    bounds = _bounds(text)
    lowest = max((value for sign, value in bounds if sign == ">="), default=0.0)
    highest = min((value for sign, value in bounds if sign == "<="), default=float("inf"))
    if lowest > highest:
        raise ValueError(f"{text!r} holds for no number: the lower bound is above the upper one")
    return text


_Bound = Annotated[str, BeforeValidator(_text, json_schema_input_type=str), AfterValidator(_readable)]


class Constraints(BaseModel):
    """Bounds that every configuration must keep; one that does not is drawn again."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    num_params: _Bound | None = Field(
        default=None, description="Parameters in matrix products, what model.size counts: '<= 5M', '>= 1M, <= 5M'."
    )
    train_flops: _Bound | None = Field(
        default=None, description="FLOPs of training to the last epoch, evaluation aside: '<= 1e13'."
    )
    memory_bytes: _Bound | None = Field(
        default=None, description="Estimated memory of weights, optimizer and activations, unsharded: '<= 8GiB'."
    )

    def broken(self, cost: Cost) -> Iterator[str]:
        """Each bound that a cost breaks, with the cost."""
        for name, text in self.given().items():
            value = getattr(cost, name)
            if not all(_COMPARE[sign](value, bound) for sign, bound in _bounds(text)):
                yield f"{name} {text} (it has {value:.4g})"

    def given(self) -> dict[str, str]:
        """The bounds that are set, by name."""
        return {name: text for name in type(self).model_fields if (text := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Cost:
    """What one configuration needs.

    Attributes:
        num_params: Parameters in matrix products.
        train_flops: FLOPs of training to the last epoch.
        memory_bytes: Estimate of the largest memory of a step.
    """

    num_params: int
    train_flops: float
    memory_bytes: int


def cost_of(config: TrialConfig) -> Cost:
    """What a configuration needs, from its shape, vocabulary and schedule alone: no text is read.

    Raises:
        ConfigError: the model has no such shape.
    """
    from crossover.trainers.data.corpus import vocabulary_of
    from crossover.trainers.flops import training_flops_per_token
    from crossover.trainers.model.shapes import shape_of
    from crossover.trainers.objectives import build
    from crossover.trainers.schedule import branch_ends, num_training_steps

    vocabulary = vocabulary_of(config.data.corpus)
    shape = shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    objective = build(config, vocabulary)
    length, unique = config.data.sequence_length, config.data.unique_tokens
    num_sequences = -(-unique // length)
    num_steps = num_training_steps(config.schedule, num_sequences)
    branches = branch_ends(config.annealing, num_sequences / config.schedule.batch_size, num_steps, taken=frozenset())
    num_steps += sum(end - begin for begin, end in branches.items())
    sequences = num_steps * config.schedule.batch_size
    tokens = sequences / num_sequences * unique
    flops = tokens * training_flops_per_token(shape, objective, length)
    return Cost(shape.num_params_total, flops, memory_of(config).total_bytes)


@dataclass(frozen=True)
class Memory:
    """Estimated memory of one worker at the peak of a step.

    Attributes:
        state_bytes: What is held all the time: weights, gradients, moments and averages, or the worker's shards.
        gathered_bytes: Whole weights and gradients that several workers have for a while: of what lies outside of the
            blocks and of two blocks, the running and the next one.
        activation_bytes: What a forward pass keeps for its backward pass.
    """

    state_bytes: int
    gathered_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.state_bytes + self.gathered_bytes + self.activation_bytes


def memory_of(config: TrialConfig, workers: int = 1) -> Memory:
    """What each worker of a trial holds.

    Args:
        config: Of the trial.
        workers: How many share its batch, and in each replica its state; a multiple of `execution.replicas`.

    Raises:
        ConfigError: the model has no such shape.
    """
    from crossover.trainers.data.corpus import vocabulary_of
    from crossover.trainers.model.shapes import shape_of
    from crossover.trainers.objectives import build

    vocabulary = vocabulary_of(config.data.corpus)
    shape = shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    shards = max(1, workers // config.execution.replicas)
    return Memory(
        -(-_state_bytes(config, shape) // shards),
        _gathered_bytes(config, shape) if workers > 1 else 0,
        _activation_bytes(config, shape, build(config, vocabulary), workers),
    )


@dataclass(frozen=True)
class CheckpointSize:
    """What a checkpoint takes on the disk.

    Attributes:
        training_bytes: Weights, moments and averages, from which training goes on.
        best_bytes: Averaged weights of the best evaluation.
    """

    training_bytes: int
    best_bytes: int

    @property
    def total_bytes(self) -> int:
        """Both."""
        return self.training_bytes + self.best_bytes


def checkpoint_size(config: TrialConfig) -> CheckpointSize:
    """What one checkpoint of a trial takes: tensors alone, names and digests are some kB more.

    Raises:
        ConfigError: the model has no such shape.
    """
    from crossover.trainers.data.vocabulary import BYTES
    from crossover.trainers.model.shapes import shape_of

    shape = shape_of(config.model, BYTES.num_input_tokens, BYTES.num_output_tokens)
    weights = _FLOAT32 * shape.num_params_with_embeddings
    return CheckpointSize(_state_bytes(config, shape) - weights, weights)  # gradients are not kept


def _gathered_bytes(config: TrialConfig, shape: ModelShape) -> int:
    """Weights in the type of the products; the gradient of one group in it, and in float32 to be reduced."""
    low, block = _low(config), shape.num_params_layer
    rest = shape.num_params_with_embeddings - shape.num_params_blocks
    return low * (rest + 2 * block) + (low + _FLOAT32) * max(rest, block)


def _low(config: TrialConfig) -> int:
    return _BFLOAT16 if config.execution.precision == "bfloat16" else _FLOAT32


def _state_bytes(config: TrialConfig, shape: ModelShape) -> int:
    """Weights, gradients, moments, averages and what a branch puts back, float32. Muon has one moment for matrices."""
    everything = shape.num_params_with_embeddings
    hidden = shape.num_params_blocks
    moments = 2 * everything - (hidden if config.optimizer.name == "muon" else 0)
    averages = everything if config.averaging.horizon_fraction > 0 else 0
    put_back = 0 if config.annealing.first_epoch is None else everything + moments
    return int(_FLOAT32 * (2 * everything + moments + averages + put_back))


def _activation_bytes(config: TrialConfig, shape: ModelShape, objective: Objective, workers: int) -> int:
    """What the forward pass keeps for the backward pass, for the rows of one pass of one worker."""
    share = -(-config.schedule.batch_size // workers)
    tokens = min(config.execution.micro_batch_size or share, share) * config.data.sequence_length
    low = _low(config)
    block = _block_bytes(config, shape, low)
    match config.execution.activation_checkpointing:
        case "full":
            kept = shape.num_layers * _FLOAT32 * shape.width + block
        case "selective":
            kept = shape.num_layers * low * (6 * shape.width + 2 * _hidden_width(shape)) + block
        case _:
            kept = shape.num_layers * block
    head = objective.training_head_fraction * (low + 2 * _FLOAT32) * shape.num_output_tokens
    return int(tokens * (kept + head + 4 * _FLOAT32 * shape.width))


def _block_bytes(config: TrialConfig, shape: ModelShape, low: int) -> float:
    """Of one token in one block: what a norm reads and the residual stream stay float32, the rest is autocast's type.

    D: block input, query before its norm, stream between the halves; two normed inputs, rotated query, attention's
    output. K: key before its norm; rotated key, value. F: gate, its silu, up, their product.
    """
    kv_width = shape.num_kv_heads * shape.head_width
    regularization = config.regularization
    width_D = 3 * _FLOAT32 + 4 * low + (2 * low if regularization.dropout > 0 else 0)
    width_F = 4 * low + (low if regularization.mlp_dropout > 0 else 0)
    if shape.mixture is not None:  # what experts read and give, in their order
        width_D += 2 * low * shape.mixture.experts_per_token
    return width_D * shape.width + (_FLOAT32 + 2 * low) * kv_width + width_F * _hidden_width(shape)


def _hidden_width(shape: ModelShape) -> int:
    """Of the MLP that a token uses."""
    return shape.mlp_width if shape.mixture is None else max(shape.mlp_width, shape.mixture.active_width)
