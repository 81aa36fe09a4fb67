"""What objectives that predict masked tokens have in common: their training loss, and how many tokens a mask hides.

Shape suffixes: B batch, L sequence, W windows, M masks, N masked tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.objectives.base import LanguageModel, LossSum, Objective, to_device
from crossover.trainers.objectives.noise import TrainingNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.data import Batch

__all__ = ["MASK_STREAM", "Denoising", "masked_counts"]

_GOLDEN = (5**0.5 - 1) / 2
MASK_STREAM = 0x6D61736B  # keeps the masks' random numbers apart from others drawn with the same seed


class Denoising(Objective):
    """Predicts masked tokens, at every rate of masking.

    Args:
        mask: Id of the mask token.
        noise: What training hides.
        block_length: Tokens that share a time in training; None: a whole sequence.
    """

    causal: ClassVar[bool] = False
    is_bound: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = (
        "noise_schedule",
        "noise_power",
        "loss_weight",
        "time_sampling",
        "at_least_one_mask",
        "mask_fraction",
    )

    def __init__(self, *, mask: int, noise: TrainingNoise | None = None, block_length: int | None = None) -> None:
        self.mask = mask
        self.noise = noise or TrainingNoise()
        self.block_length = block_length

    def training_loss(
        self, model: LanguageModel, batch: Batch, generator: torch.Generator, rows: slice | None = None
    ) -> LossSum:
        """Weighted nats of masked tokens, by default an estimate of the bound (but for t below its floor)."""
        rows = rows or slice(None)
        noise = self.noise.draw(batch.valid_BL, generator, self.block_length)
        tokens_BL, valid_BL, masked_BL = batch.tokens_BL[rows], batch.valid_BL[rows], noise.masked_BL[rows]
        states = self._masked_states(model, tokens_BL, valid_BL, masked_BL)
        scale_N = noise.weight_BL[rows][masked_BL]
        return LossSum(model.nats_sum(*states, to_device(scale_N, model.device)), int(valid_BL.sum()))

    @property
    def training_head_fraction(self) -> float:
        """Logits are computed at masked positions only."""
        return self.noise.mean_share

    def evaluation_passes(self, num_masks: int) -> int:
        """One a mask."""
        return num_masks

    @abstractmethod
    def _masked_states(
        self, model: LanguageModel, tokens_BL: Tensor, valid_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hidden states h_ND and targets [N] of the masked tokens (see `chosen_states`)."""


def masked_counts(num_tokens_W: NDArray[np.int64], num_masks: int, shift: float) -> NDArray[np.int64]:
    """How many tokens each mask hides: k_WM, each uniform on 1..n over the shift.

    A window's M masks lie in M different strata of [0, 1), at an offset that runs through the windows by the golden
    ratio: any number of windows in a row spreads evenly (discrepancy O(log W / W)), and a window's k does not depend on
    how many follow it.

    Args:
        num_tokens_W: Tokens n of each window, at least 1.
        num_masks: M.
        shift: Uniform on [0, 1).
    """
    offset_W1 = ((shift + _GOLDEN * np.arange(len(num_tokens_W))) % 1)[:, None]
    uniform_WM = (np.arange(num_masks) + offset_W1) / num_masks
    n_W1 = num_tokens_W[:, None]
    return np.minimum((uniform_WM * n_W1).astype(np.int64) + 1, n_W1)  # the minimum: against rounding up to 1
