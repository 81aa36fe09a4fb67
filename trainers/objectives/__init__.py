"""What is learned: one file an objective, entered into the registry by its import here."""

from crossover.trainers.objectives import autoregressive, block_diffusion, masked_diffusion
from crossover.trainers.objectives.base import (
    LanguageModel,
    LossSum,
    Objective,
    WindowNats,
    build,
    get,
    names,
    register,
)

__all__ = [
    "LanguageModel",
    "LossSum",
    "Objective",
    "WindowNats",
    "autoregressive",
    "block_diffusion",
    "build",
    "get",
    "masked_diffusion",
    "names",
    "register",
]
