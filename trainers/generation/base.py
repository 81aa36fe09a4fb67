"""What a generator is, its settings, and the registry of all of them, by the objective that trained the model.

Shape suffixes: B sequences, N new tokens, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crossover.trainers.data import Vocabulary
from crossover.trainers.errors import ConfigError, CrossoverError
from crossover.trainers.model.shapes import ModelShape
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.tasks.likelihood import Continuation

__all__ = [
    "Generated",
    "GenerationError",
    "GenerationSettings",
    "Generator",
    "check_generates",
    "choose",
    "forward_flops",
    "generator_of",
    "register",
    "until_separator",
]


class GenerationError(CrossoverError):
    """A request that this model cannot answer."""


@dataclass(frozen=True)
class GenerationSettings:
    """How tokens are chosen.

    Args:
        num_tokens: new tokens N of each sequence.
        temperature: of the softmax; 0 takes the likeliest token.
        top_k: choose among so many likeliest tokens; None: all.
        top_p: choose among the likeliest tokens that hold this probability together; 1: all.
        order: masked diffusion: which tokens are uncovered first, those that the model is surest of, or any.
        steps: masked diffusion: forward passes; None: one a token.
        block_tokens: masked diffusion: tokens that are finished before those after them; None: all at once.
        seed: of the choices.
    """

    num_tokens: int = 64
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    order: Literal["confidence", "random"] = "confidence"
    steps: int | None = None
    block_tokens: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuses settings that mean nothing.

        Raises:
            GenerationError: one is out of its range; the message names it.
        """
        rules = (
            ("tokens", self.num_tokens, self.num_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, self.temperature >= 0, "0 or more"),
            ("top-k", self.top_k, self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            (
                "steps",
                self.steps,
                self.steps is None or 1 <= self.steps <= self.num_tokens,
                "1 to the number of tokens",
            ),
            ("block", self.block_tokens, self.block_tokens is None or self.block_tokens >= 1, "at least 1"),
        )
        for name, value, holds, rule in rules:
            if not holds:
                raise GenerationError(f"--{name} is {value}, and must be {rule}")


@dataclass(frozen=True)
class Generated:
    """What was generated.

    Args:
        tokens_BN: new tokens of each sequence, int64.
        num_passes: sequences that went through the model, each counted once a forward pass.
        flops: FLOPs of all of it, the prompt's among them.
    """

    tokens_BN: Tensor
    num_passes: int
    flops: float


class Generator(ABC):
    """One way to generate.

    Args:
        model: in evaluation mode.
        vocabulary: its token ids.
    """

    uses_order_and_steps: bool = False

    def __init__(self, model: Transformer, vocabulary: Vocabulary) -> None:
        self.model = model
        self.vocabulary = vocabulary

    @abstractmethod
    def generate(self, prompt: Sequence[int], num_sequences: int, settings: GenerationSettings) -> Generated:
        """Continues a prompt, several times at once, without gradient; the same seed gives the same tokens.

        Args:
            prompt: token ids; may be none.
            num_sequences: sequences B.
            settings: how; checked.
        """

    @abstractmethod
    def reproduces(self, continuations: Sequence[Continuation]) -> list[bool]:
        """Whether greedy generation from each context gives its tokens, all of them."""


_REGISTRY: dict[str, type[Generator]] = {}


def register(objective: str) -> Callable[[type[Generator]], type[Generator]]:
    """Class decorator: the generator of models that this objective trained."""

    def enter(generator: type[Generator]) -> type[Generator]:
        assert objective not in _REGISTRY, objective
        _REGISTRY[objective] = generator
        return generator

    return enter


def check_generates(objective: str) -> None:
    """Refuses an objective whose models cannot generate.

    Raises:
        ConfigError: there is no generator of that name.
    """
    if objective not in _REGISTRY:
        raise ConfigError(
            f"models of objective {objective} cannot generate: those of {', '.join(sorted(_REGISTRY))} can"
        )


def generator_of(objective: str, model: Transformer, vocabulary: Vocabulary) -> Generator:
    """The generator of a model by the name of its objective.

    Raises:
        ConfigError: there is none.
    """
    check_generates(objective)
    return _REGISTRY[objective](model, vocabulary)


def choose(logits_BV: Tensor, settings: GenerationSettings, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A token for each row, and the probability that the model gave it before temperature and cuts.

    Args:
        logits_BV: any number of leading dimensions in B.
        settings: temperature, top_k and top_p.
        random: on the CPU, so that every device chooses alike.
    """
    log_p_BV = logits_BV.float().log_softmax(-1)
    if settings.temperature == 0:
        tokens_B = log_p_BV.argmax(-1)
    else:
        scaled_BV = (log_p_BV / settings.temperature).cpu()
        cut_BV = _cut(scaled_BV, settings).softmax(-1)
        tokens_B = torch.multinomial(cut_BV, 1, generator=random)[:, 0].to(logits_BV.device)
    return tokens_B, log_p_BV.gather(-1, tokens_B[:, None])[:, 0].exp()


def forward_flops(shape: ModelShape, num_tokens: int, num_keys: int, num_logits: int) -> float:
    """FLOPs of tokens that read so many keys all together, of which so many have logits: as `flops.py` counts."""
    matrices = 2.0 * (shape.num_params_active - shape.num_params_head) * num_tokens
    attention = 4.0 * shape.num_layers * shape.width * num_keys
    return matrices + attention + 2.0 * shape.num_params_head * num_logits


def until_separator(tokens_N: Sequence[int], separator: int) -> list[int]:
    """Tokens up to the end of their document."""
    found = list(tokens_N)
    return found[: found.index(separator)] if separator in found else found


def _cut(scores_BV: Tensor, settings: GenerationSettings) -> Tensor:
    """Scores with all but the likeliest tokens at -inf (top-k, then nucleus: arXiv 1904.09751)."""
    if settings.top_k is not None and settings.top_k < scores_BV.shape[-1]:
        lowest_B1 = scores_BV.topk(settings.top_k, dim=-1).values[:, -1:]
        scores_BV = scores_BV.masked_fill(scores_BV < lowest_B1, -torch.inf)
    if settings.top_p < 1:
        sorted_BV, places_BV = scores_BV.sort(dim=-1, descending=True)
        before_BV = sorted_BV.softmax(-1).cumsum(-1) - sorted_BV.softmax(-1)
        sorted_BV = sorted_BV.masked_fill(before_BV >= settings.top_p, -torch.inf)
        scores_BV = torch.full_like(scores_BV, -torch.inf).scatter(-1, places_BV, sorted_BV)
    return scores_BV
