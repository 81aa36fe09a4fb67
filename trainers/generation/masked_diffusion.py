"""From masks to text, some tokens a pass: those that the model is surest of first (arXiv 2502.09992), or any.

Blocks are finished one after the other from the left; the masks after a block are seen all the time, as in LLaDA. With
one pass a token, a random order and temperature 1 this samples from the model's any-order distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from crossover.trainers.generation.base import Generated, GenerationSettings, Generator, choose, forward_flops, register
from crossover.trainers.tasks.likelihood import Continuation

__all__ = ["MaskedDiffusionGenerator"]

_GREEDY = GenerationSettings(temperature=0.0)
_ROWS = 64


@register("masked_diffusion")
class MaskedDiffusionGenerator(Generator):
    """Uncovers masks, several a pass."""

    uses_order_and_steps = True

    @torch.no_grad()
    def generate(self, prompt: Sequence[int], num_sequences: int, settings: GenerationSettings) -> Generated:
        """See `Generator`."""
        start, num = len(prompt), settings.num_tokens
        tokens_BL = torch.full((num_sequences, start + num), self.vocabulary.mask)
        tokens_BL[:, :start] = torch.tensor(list(prompt), dtype=torch.int64)
        random = torch.Generator().manual_seed(settings.seed)
        length, num_passes, num_logits = start + num, 0, 0
        for place_N, num_uncovered in _plan(start, settings):
            num_logits += int((tokens_BL[0, place_N] == self.vocabulary.mask).sum())
            self._uncover(tokens_BL, place_N, num_uncovered, settings, random)
            num_passes += 1
        flops = forward_flops(self.model.shape, num_passes * length, num_passes * length * length, num_logits)
        return Generated(tokens_BL[:, start:], num_sequences * num_passes, num_sequences * flops)

    @torch.no_grad()
    def reproduces(self, continuations: Sequence[Continuation]) -> list[bool]:
        """One pass a token, the surest first; what goes astray is not followed further."""
        found = [False] * len(continuations)
        by_shape: dict[tuple[int, int], list[int]] = {}
        for place, one in enumerate(continuations):
            by_shape.setdefault((len(one.context), len(one.tokens)), []).append(place)
        for (start, num), places in by_shape.items():
            for first in range(0, len(places), _ROWS):
                for place in self._reproduced(continuations, places[first : first + _ROWS], start, num):
                    found[place] = True
        return found

    def _reproduced(self, continuations: Sequence[Continuation], places: list[int], start: int, num: int) -> list[int]:
        wanted_BN = torch.tensor([list(continuations[place].tokens) for place in places])
        tokens_BL = torch.full((len(places), start + num), self.vocabulary.mask)
        for row_L, place in zip(tokens_BL, places, strict=True):
            row_L[:start] = torch.tensor(list(continuations[place].context), dtype=torch.int64)
        random = torch.Generator()
        for place_N, num_uncovered in _plan(start, replace(_GREEDY, num_tokens=num)):
            self._uncover(tokens_BL, place_N, num_uncovered, _GREEDY, random)
            right_B = ((tokens_BL[:, start:] == wanted_BN) | (tokens_BL[:, start:] == self.vocabulary.mask)).all(1)
            tokens_BL, wanted_BN = tokens_BL[right_B], wanted_BN[right_B]
            places = [place for place, right in zip(places, right_B.tolist(), strict=True) if right]
            if not places:
                break
        return places

    def _uncover(
        self, tokens_BL: Tensor, place_N: Tensor, num: int, settings: GenerationSettings, random: torch.Generator
    ) -> None:
        """Fills the `num` masks of each row, among these places, that come first in the order."""
        masked_BN = tokens_BL[:, place_N] == self.vocabulary.mask
        h_BLD = self.model.hidden(tokens_BL.to(self.model.device), causal=False)
        h_RD = h_BLD[:, place_N.to(h_BLD.device)][masked_BN.to(h_BLD.device)]
        chosen_R, sureness_R = choose(self.model.logits(h_RD), settings, random)
        if settings.order == "random":
            sureness_R = torch.rand(sureness_R.shape, generator=random)
        sureness_BN = torch.full(masked_BN.shape, -1.0)
        sureness_BN[masked_BN] = sureness_R.float().cpu()
        chosen_BN = torch.zeros(masked_BN.shape, dtype=torch.int64)
        chosen_BN[masked_BN] = chosen_R.cpu()
        first_BK = sureness_BN.topk(num, dim=1).indices
        tokens_BL.scatter_(1, place_N[first_BK], chosen_BN.gather(1, first_BK))


def _plan(start: int, settings: GenerationSettings) -> Iterator[tuple[Tensor, int]]:
    """Places of the block, and how many of them are uncovered, for each pass: as even as it can be."""
    num, block = settings.num_tokens, min(settings.block_tokens or settings.num_tokens, settings.num_tokens)
    steps = settings.steps or num
    for first in range(0, num, block):
        last = min(first + block, num)
        passes = max(1, round(steps * last / num) - round(steps * first / num))
        for number in range(passes):
            uncovered = (last - first) * (number + 1) // passes - (last - first) * number // passes
            if uncovered:
                yield torch.arange(start + first, start + last), uncovered
