"""Block diffusion (BD3-LM, arXiv 2503.09573): blocks in order, masked diffusion inside of each, given all before it.

One pass reads a sequence twice, noisy and clean: a noisy block sees itself and the clean blocks before it, a clean
block itself and what is before it. The bound, in its exact-k form, adds up over blocks b of n_b tokens

    -log p(x) <= sum_b E_{k ~ U{1..n_b}} E_{|S| = k} (n_b/k) sum_{i in S} -log p(x_i | x_b outside of S, x before b)

With blocks of one token it is the exact likelihood of an autoregressive model; with one block it is the bound of masked
diffusion.

Shape suffixes: B batch, L sequence, W windows, M masks, R rows, N chosen positions, G blocks of a sequence, S places in
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.objectives.base import (
    LanguageModel,
    WindowNats,
    chosen_states,
    evaluating,
    register,
    scored_places,
    to_device,
)
from crossover.trainers.objectives.denoising import Denoising
from crossover.trainers.objectives.evaluation_masks import MASK_STREAM, masked_counts
from crossover.trainers.objectives.noise import TrainingNoise, in_blocks
from crossover.trainers.objectives.passes import forward_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.config import TrialConfig
    from crossover.trainers.data import Vocabulary, Windows

__all__ = ["BlockDiffusion"]


@register
class BlockDiffusion(Denoising):
    """Predicts the masked tokens of each block from the rest of it and all blocks before.

    Args:
        mask: Id of the mask token.
        block_length: Tokens a block; the last one of a sequence may be shorter.
        noise: What training hides; each block has a time of its own.
    """

    name: ClassVar[str] = "block_diffusion"
    sees_everything: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = (*Denoising.settings, "block_length")
    block_length: int

    def __init__(self, *, mask: int, block_length: int = 16, noise: TrainingNoise | None = None) -> None:
        super().__init__(mask=mask, noise=noise, block_length=block_length)

    @classmethod
    def from_config(cls, config: TrialConfig, vocabulary: Vocabulary) -> Self:
        """With the configuration's blocks and noise."""
        objective = config.objective
        return cls(
            mask=vocabulary.mask, block_length=objective.block_length, noise=TrainingNoise.from_config(objective)
        )

    def window_nats(
        self,
        model: LanguageModel,
        windows: Windows,
        *,
        num_masks: int,
        seed: int,
        batch_size: int = 64,
        rank: int = 0,
        world_size: int = 1,
        given_W: NDArray[np.int64] | None = None,
    ) -> WindowNats:
        """One estimate of the bound for each window and mask; every block has a number of masks of its own."""
        hideable_WL = scored_places(windows, given_W)
        num_W, length = hideable_WL.shape
        random = np.random.default_rng([seed, MASK_STREAM])
        num_WG = in_blocks(hideable_WL, self.block_length).sum(1).view(num_W, -1)
        k_RG = self._counts(num_WG, num_masks, random.random())
        nats_R = np.zeros(num_W * num_masks)
        with evaluating(model):
            for part in forward_passes(len(nats_R), batch_size, rank, world_size):
                drawn_RL = torch.from_numpy(random.random((part.everyone.stop - part.everyone.start, length)))
                window_R = part.rows_R // num_masks
                order_RL = drawn_RL[part.rows_R - part.everyone.start].masked_fill(~hideable_WL[window_R], 2.0)
                masked_RL = self._first_of_each_block(order_RL, k_RG[part.rows_R])
                tokens_RL, valid_RL = windows.tokens_WL[window_R], windows.valid_WL[window_R]
                nats_RL = torch.zeros(tokens_RL.shape, dtype=torch.float64)
                states = self._masked_states(model, tokens_RL, valid_RL, masked_RL)
                nats_RL[masked_RL] = model.nats(*states).double().cpu()
                weight_RG = num_WG[window_R].double() / k_RG[part.rows_R].clamp(min=1)
                weight_RL = weight_RG.repeat_interleave(self.block_length, dim=1)[:, :length]
                nats_R[part.own] = (nats_RL * weight_RL)[: part.num_own].sum(1).numpy()
        num_masked_R = k_RG.sum(1).numpy()
        return WindowNats(nats_R.reshape(num_W, num_masks), num_masked_R.reshape(num_W, num_masks))

    @property
    def inputs_per_token(self) -> float:
        """Each token is read twice, noisy and clean."""
        return 2.0

    def keys_per_input(self, length: int) -> float:
        """Either copy of a token attends to as many as there are up to the end of its block."""
        ends = [min(start + self.block_length, length) for start in range(0, length, self.block_length)]
        starts = [0, *ends[:-1]]
        return sum((end - start) * end for start, end in zip(starts, ends, strict=True)) / length

    def evaluation_head_fraction(self, num_tokens: int) -> float:
        """E[k] / n, summed over blocks."""
        whole, rest = divmod(num_tokens, self.block_length)
        return (whole * (self.block_length + 1) + (rest + 1 if rest else 0)) / (2 * num_tokens)

    def _counts(self, num_WG: Tensor, num_masks: int, shift: float) -> Tensor:
        """Masked tokens k_RG of each block in each row (window, mask); 0 where a block has none to hide."""
        num_blocks = num_WG.shape[1]
        k_WGM = masked_counts(num_WG.flatten().numpy(), num_masks, shift).reshape(-1, num_blocks, num_masks)
        return torch.from_numpy(k_WGM.transpose(0, 2, 1).reshape(-1, num_blocks).copy())

    def _first_of_each_block(self, order_RL: Tensor, k_RG: Tensor) -> Tensor:
        """The k places of each block that come first."""
        rank = in_blocks(order_RL, self.block_length, fill=2.0).argsort(dim=1).argsort(dim=1)
        masked = rank < k_RG.reshape(-1, 1)
        return masked.view(len(order_RL), -1)[:, : order_RL.shape[1]]

    def _masked_states(
        self, model: LanguageModel, tokens_BL: Tensor, valid_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        length, device = tokens_BL.shape[1], model.device
        inputs_BL = torch.cat([tokens_BL.masked_fill(masked_BL, self.mask), tokens_BL], dim=1)
        h_BLD = model.hidden(
            to_device(inputs_BL, device),
            causal=False,
            valid_BL=None if valid_BL.all() else to_device(torch.cat([valid_BL, valid_BL], dim=1), device),
            visible_LL=to_device(_visible(length, self.block_length), device),
            positions_L=to_device(torch.arange(length).repeat(2), device),
        )
        return chosen_states(h_BLD[:, :length], tokens_BL, masked_BL)


def _visible(length: int, block_length: int) -> Tensor:
    """What each of 2 L positions, noisy ones first, sees of them."""
    block_L = torch.arange(length) // block_length
    own, before = block_L[:, None] == block_L, block_L[:, None] > block_L
    noisy = torch.cat([own, before], dim=1)
    clean = torch.cat([torch.zeros_like(own), own | before], dim=1)
    return torch.cat([noisy, clean])
