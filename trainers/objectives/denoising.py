"""What objectives that predict masked tokens have in common: their training loss.

Shape suffixes: B batch, L sequence, N masked tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from crossover.trainers.objectives.base import LanguageModel, LossSum, Objective, to_device
from crossover.trainers.objectives.noise import TrainingNoise

if TYPE_CHECKING:
    from crossover.trainers.data import Batch

__all__ = ["Denoising"]


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
