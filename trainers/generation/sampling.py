"""`sample_from`: text from a trained model, with what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from crossover.trainers.generation.base import GenerationError, GenerationSettings, generator_of, until_separator
from crossover.trainers.trained import TrainedModel

__all__ = ["Sampled", "sample_from"]


@dataclass(frozen=True)
class Sampled:
    """Texts of one model, and their cost.

    Args:
        name: of the model.
        objective: that trained it.
        texts: one a sequence, without the prompt, up to the end of a document.
        num_tokens: new tokens of all sequences, those after the end of a document too: they were computed.
        num_passes: sequences that went through the model, counted once a forward pass.
        flops_per_token: FLOPs a new token.
        seconds: of generating.
    """

    name: str
    objective: str
    texts: list[str]
    num_tokens: int
    num_passes: int
    flops_per_token: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second, all sequences."""
        return self.num_tokens / self.seconds

    def summary(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**vars(self), "tokens_per_second": self.tokens_per_second}


def sample_from(
    trained: TrainedModel, prompt: str, num_sequences: int, settings: GenerationSettings, *, warm: bool = True
) -> Sampled:
    """Continues a prompt.

    Args:
        trained: the model.
        prompt: text; may be empty.
        num_sequences: texts wanted, generated at once.
        settings: how.
        warm: generate one token first, so that the time is that of generating alone.

    Raises:
        GenerationError: settings out of range, or more tokens than the model's context holds.
        ConfigError: models of this objective cannot generate.
    """
    settings.check()
    tokens, context = trained.encode(prompt), trained.context_tokens
    if len(tokens) + settings.num_tokens > context:
        raise GenerationError(
            f"the prompt has {len(tokens)} tokens and {settings.num_tokens} are to follow, but model {trained.name} "
            f"reads {context} (data.sequence_length): shorten the prompt, or set --tokens to "
            f"{max(0, context - len(tokens))} or less"
        )
    generator = generator_of(trained.objective.name, trained.model, trained.vocabulary)
    with trained.runtime.autocast():
        if warm:
            generator.generate(tokens, num_sequences, GenerationSettings(num_tokens=1))
        start = time.perf_counter()
        found = generator.generate(tokens, num_sequences, settings)
        seconds = time.perf_counter() - start
    separator = trained.vocabulary.separator
    num_tokens = num_sequences * settings.num_tokens
    return Sampled(
        name=trained.name,
        objective=trained.objective.name,
        texts=[trained.decode(until_separator(row, separator)) for row in found.tokens_BN.tolist()],
        num_tokens=num_tokens,
        num_passes=found.num_passes,
        flops_per_token=found.flops / num_tokens,
        seconds=seconds,
    )
