"""`ModelConfig`: what is asked of the model. The shape that it comes to is computed in `model/shapes.py`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from crossover.trainers.section import Section

__all__ = ["ModelConfig"]

_OF_MIXTURES = (
    "granularity",
    "experts_per_token",
    "shared_experts",
    "first_dense_layers",
    "routing",
    "router_scores",
    "normalize_weights",
    "balancing",
    "balance_loss",
    "bias_rate",
    "router_z_loss",
    "dense_control",
)


class ModelConfig(Section):
    """The backbone, the same for every objective: either `size`, or `num_layers` and `width`.

    A mixture of experts where `num_experts` is set, or `sparsity` is more than 1.
    """

    size: str | None = Field(
        default=None,
        description="Parameters in matrix products, as 400k or 5M; the shape nearest to it is taken. Of a mixture: "
        "those that a token uses.",
    )
    num_layers: int | None = Field(default=None, gt=0, le=10_000, description="Transformer blocks.")
    width: int | None = Field(default=None, gt=0, le=1_000_000, description="Width D of the residual stream.")
    num_heads: int | None = Field(
        default=None, gt=0, le=1_000_000, description="Attention heads; by default heads of 32 to 64."
    )
    num_kv_heads: int | None = Field(
        default=None, gt=0, le=1_000_000, description="Key-value heads; fewer than heads is GQA."
    )
    mlp_width: int | None = Field(
        default=None, gt=0, le=10_000_000, description="Hidden width of SwiGLU; by default 8/3 D."
    )
    num_experts: int | None = Field(default=None, ge=2, le=65_536, description="Routed experts a layer; null: dense.")
    sparsity: float | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Total over active parameters in matrix products; the number of experts follows. 1: dense.",
    )
    granularity: int = Field(
        default=1, gt=0, le=1024, description="An expert is mlp_width / granularity wide (arXiv 2402.07871)."
    )
    experts_per_token: int | None = Field(
        default=None,
        gt=0,
        description="Routed experts of a token, on average where experts choose; null: as many as make, with the "
        "shared ones, the width of a dense MLP.",
    )
    shared_experts: int = Field(default=0, ge=0, le=1024, description="Experts that every token uses.")
    first_dense_layers: int = Field(default=0, ge=0, le=10_000, description="First layers without a mixture.")
    routing: Literal["token_choice", "expert_choice"] = Field(
        default="token_choice",
        description="Who chooses: a token its experts, or an expert its tokens inside a sequence (which no causal "
        "model may).",
    )
    router_scores: Literal["softmax", "sigmoid"] = Field(default="softmax", description="Of a token over all experts.")
    normalize_weights: bool | None = Field(
        default=None,
        description="Weights of a token's chosen experts add up to 1; null: where a token chooses more than one.",
    )
    balancing: Literal["loss", "bias", "none"] | None = Field(
        default=None,
        description="What keeps experts equally busy: an auxiliary loss, a bias of each expert in the choice alone "
        "(arXiv 2408.15664), or nothing. null: loss where tokens choose; where experts do they are balanced already.",
    )
    balance_loss: float = Field(default=0.01, ge=0, le=100, description="balancing: loss: its weight.")
    bias_rate: float = Field(default=1e-3, gt=0, le=1, description="balancing: bias: its change a step.")
    router_z_loss: float = Field(
        default=1e-3, ge=0, le=100, description="Weight of the squared log-sum-exp of a router's logits (2202.08906)."
    )
    dense_control: Literal["none", "active", "total"] = Field(
        default="none",
        description="Trains, in the mixture's place, a dense model with as many parameters as a token uses (active), "
        "or as the mixture has (total).",
    )
    tie_embeddings: bool = Field(default=False, description="Output head shares the input table.")
    rope_base: float = Field(default=10_000.0, gt=0, description="Base of the rotary frequencies.")
    init_std: float = Field(default=0.02, gt=0, description="Standard deviation of the initial weights.")

    @model_validator(mode="after")
    def _one_way_to_say_the_shape(self) -> Self:
        explicit = [n for n in ("num_layers", "width", "num_heads", "num_kv_heads", "mlp_width") if getattr(self, n)]
        if self.size is not None and explicit:
            raise ValueError(f"model.size = {self.size} and model.{explicit[0]} are both set: set one of them")
        if self.size is None and (self.num_layers is None or self.width is None):
            raise ValueError("the model has no shape: set model.size, or model.num_layers and model.width")
        return self

    @property
    def is_mixture(self) -> bool:
        """Whether its MLPs are mixtures of experts, or would be but for `dense_control`."""
        return self.num_experts is not None or (self.sparsity or 1) > 1

    @model_validator(mode="after")
    def _mixture_is_sound(self) -> Self:
        if self.num_experts is not None and self.sparsity is not None:
            raise ValueError(
                f"model.num_experts = {self.num_experts} and model.sparsity = {self.sparsity:g} are both set, and each "
                "says how many experts there are: set one of them"
            )
        if self.routing == "expert_choice" and self.balancing not in (None, "none"):
            raise ValueError(
                f"model.balancing = {self.balancing} is for model.routing: token_choice: experts that choose their "
                "tokens are balanced already; leave it out"
            )
        if not self.is_mixture and self.sparsity is None and (ignored := self._settings_of_mixtures()):
            raise ValueError(
                f"model.{ignored[0]} = {getattr(self, ignored[0])} is for mixtures of experts, and this model is "
                "dense: set model.num_experts or model.sparsity, or leave it out"
            )
        return self

    def _settings_of_mixtures(self) -> list[str]:
        return [n for n in _OF_MIXTURES if getattr(self, n) != type(self).model_fields[n].default]
