"""What a mixture of experts consists of, and how many experts make a given sparsity: torch-free.

Experts are SwiGLUs of a fraction 1 / granularity of the dense hidden width, and by default a token uses as many as make
that width again: so a mixture and the dense model of its shape differ in active parameters by the routers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossover.trainers.errors import ConfigError

if TYPE_CHECKING:
    from crossover.trainers.config import ModelConfig

__all__ = ["Mixture", "mixture_of", "num_experts_for"]


@dataclass(frozen=True)
class Mixture:
    """All that the mixtures of a model consist of.

    Attributes:
        num_experts: Routed experts n of a layer.
        experts_per_token: k of them that a token uses, on average where experts choose.
        expert_width: Hidden width of one expert.
        shared_experts: Experts beside them that every token uses.
        first_dense_layers: Layers without a mixture, from the first.
        by_expert: Whether experts choose tokens, not tokens experts.
        scores: How a router's logits become scores.
        normalize_weights: Whether the weights of a token's experts add up to 1.
        balancing: What keeps experts equally busy.
        balance_loss, z_loss: Weights of the auxiliary losses; 0 where there is none.
        bias_rate: Change of a balancing bias a step.
    """

    num_experts: int
    experts_per_token: int
    expert_width: int
    shared_experts: int
    first_dense_layers: int
    by_expert: bool
    scores: Literal["softmax", "sigmoid"]
    normalize_weights: bool
    balancing: Literal["loss", "bias", "none"]
    balance_loss: float
    bias_rate: float
    z_loss: float

    @property
    def shared_width(self) -> int:
        """Hidden width of the shared experts together: they are one SwiGLU."""
        return self.shared_experts * self.expert_width

    @property
    def active_width(self) -> int:
        """Hidden width that a token uses."""
        return self.experts_per_token * self.expert_width + self.shared_width

    @property
    def total_width(self) -> int:
        """Hidden width of all experts of a layer."""
        return self.num_experts * self.expert_width + self.shared_width

    def capacity(self, length: int) -> int:
        """Tokens that each expert chooses from a sequence of that length: about L k / n, at least 1."""
        wanted = (2 * length * self.experts_per_token + self.num_experts) // (2 * self.num_experts)
        return min(max(wanted, 1), length)


def mixture_of(config: ModelConfig, num_experts: int, num_layers: int, mlp_width: int) -> Mixture:
    """The mixture that a configuration asks for.

    Args:
        config: Its routing, and how experts are cut.
        num_experts: Routed experts a layer.
        num_layers: Of the model.
        mlp_width: Hidden width of the dense MLP that experts are cut from.

    Raises:
        ConfigError: the parts do not fit together.
    """
    experts_per_token = _experts_per_token(config)
    if experts_per_token > num_experts:
        raise ConfigError(
            f"model.experts_per_token is {experts_per_token}, but there are {num_experts} routed experts: set it to "
            f"{num_experts} or less, or raise model.num_experts"
        )
    if mlp_width % config.granularity:
        raise ConfigError(
            f"model.granularity is {config.granularity}, but must divide model.mlp_width = {mlp_width}: set "
            f"model.mlp_width to {-(-mlp_width // config.granularity) * config.granularity}, or set another granularity"
        )
    if config.first_dense_layers >= num_layers:
        raise ConfigError(
            f"model.first_dense_layers is {config.first_dense_layers}, but the model has {num_layers} layers, so none "
            f"would have experts: set it to {num_layers - 1} or less"
        )
    by_expert = config.routing == "expert_choice"
    balancing = config.balancing or ("none" if by_expert else "loss")
    normalize = config.normalize_weights
    return Mixture(
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        expert_width=mlp_width // config.granularity,
        shared_experts=config.shared_experts,
        first_dense_layers=config.first_dense_layers,
        by_expert=by_expert,
        scores=config.router_scores,
        normalize_weights=normalize if normalize is not None else experts_per_token > 1 and not by_expert,
        balancing=balancing,
        balance_loss=config.balance_loss if balancing == "loss" else 0.0,
        bias_rate=config.bias_rate,
        z_loss=config.router_z_loss,
    )


def num_experts_for(config: ModelConfig, num_layers: int, width: int, mlp_width: int, dense_params: int) -> int:
    """Routed experts with which total over active parameters is nearest to `config.sparsity`.

    Of a layer, routers take D n parameters of both, and experts P = 3 D F of each: with A parameters of the dense model
    of the same active width and m layers that have experts, A + m D n + m P (n - k) = S (A + m D n).

    Args:
        config: With its sparsity S.
        num_layers: Of the model.
        width: D.
        mlp_width: Hidden width of the dense MLP that experts are cut from.
        dense_params: A.

    Raises:
        ConfigError: routers grow as fast as experts, so there is no such number.
    """
    assert config.sparsity is not None
    chosen, sparsity = _experts_per_token(config), config.sparsity
    num_mixtures = max(num_layers - config.first_dense_layers, 1)
    expert = 3 * width * (mlp_width // config.granularity)
    growth = num_mixtures * (expert + width - sparsity * width)
    if growth <= 0:
        raise ConfigError(
            f"model.sparsity is {sparsity:g}, which experts {mlp_width // config.granularity} wide cannot reach, for "
            "routers would be as large as they: lower model.granularity or model.sparsity"
        )
    return max(chosen, 2, round(((sparsity - 1) * dense_params + num_mixtures * expert * chosen) / growth))


def _experts_per_token(config: ModelConfig) -> int:
    if config.experts_per_token is not None:
        return config.experts_per_token
    if config.granularity <= config.shared_experts:
        raise ConfigError(
            f"model.shared_experts is {config.shared_experts} at model.granularity {config.granularity}: they are as "
            "wide as a dense MLP already; raise model.granularity, or set model.experts_per_token"
        )
    return config.granularity - config.shared_experts
