"""`OptimizerConfig`: how a step changes the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crossover.trainers.section import Section

__all__ = ["OptimizerConfig"]


class OptimizerConfig(Section):
    """How weights are updated."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw", description="adamw, or muon for the hidden matrices with adamw for the rest."
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Peak learning rate.")
    weight_decay: float = Field(default=0.1, ge=0, le=10, description="Decoupled weight decay of matrices.")
    final_weight_decay: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="Where weight_decay goes over the run, by weight_decay_schedule; null: it stays.",
    )
    weight_decay_schedule: Literal["linear", "cosine"] = Field(
        default="linear", description="final_weight_decay: how it gets there."
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the second moment.")
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
