"""Generation: one file an objective, entered into the registry by its import here."""

from crossover.trainers.generation import autoregressive, masked_diffusion
from crossover.trainers.generation.base import Generated, GenerationSettings, Generator, generator_of, register

__all__ = [
    "Generated",
    "GenerationSettings",
    "Generator",
    "autoregressive",
    "generator_of",
    "masked_diffusion",
    "register",
]
