"""Token after token from the left, keys and values of what was read kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from crossover.trainers.generation.base import Generated, GenerationSettings, Generator, choose, forward_flops, register
from crossover.trainers.generation.cache import CachedDecoder
from crossover.trainers.tasks.likelihood import Continuation

__all__ = ["AutoregressiveGenerator"]

_ROWS = 64


@register("autoregressive")
class AutoregressiveGenerator(Generator):
    """Samples from p(next | all before)."""

    @torch.no_grad()
    def generate(self, prompt: Sequence[int], num_sequences: int, settings: GenerationSettings) -> Generated:
        """See `Generator`; the prompt is read in one pass."""
        random = torch.Generator().manual_seed(settings.seed)
        decoder, device = CachedDecoder(self.model), self.model.device
        read_BT = torch.tensor([[self.vocabulary.begin, *prompt]], device=device).expand(num_sequences, -1)
        num_read, num_keys, found = 0, 0, []
        for _ in range(settings.num_tokens):
            num_new = read_BT.shape[1]
            num_keys += sum(num_read + place + 1 for place in range(num_new))
            num_read += num_new
            tokens_B, _ = choose(self.model.logits(decoder.read(read_BT)[:, -1]), settings, random)
            found.append(tokens_B)
            read_BT = tokens_B[:, None]
        flops = num_sequences * forward_flops(self.model.shape, num_read, num_keys, settings.num_tokens)
        return Generated(torch.stack(found, dim=1).cpu(), num_sequences * settings.num_tokens, flops)

    @torch.no_grad()
    def reproduces(self, continuations: Sequence[Continuation]) -> list[bool]:
        """One pass answers for all tokens: greedy generation goes astray at the first that is not the likeliest."""
        found: list[bool] = []
        for start in range(0, len(continuations), _ROWS):
            rows = continuations[start : start + _ROWS]
            inputs_BL = torch.full((len(rows), max(map(len, rows))), self.vocabulary.separator)
            for row_L, one in zip(inputs_BL, rows, strict=True):
                row_L[: len(one)] = torch.tensor([self.vocabulary.begin, *one.context, *one.tokens][:-1])
            likeliest_BL = self.model(inputs_BL.to(self.model.device), causal=True).argmax(-1).tolist()
            found += [
                likeliest_L[len(one.context) : len(one)] == list(one.tokens)
                for likeliest_L, one in zip(likeliest_BL, rows, strict=True)
            ]
        return found
