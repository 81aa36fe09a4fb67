"""Next-token prediction with its exact likelihood.

A begin token is read first, so the first token of a sequence is scored too, and both objectives score the same tokens.
Input noise (arXiv 2511.03276) replaces input tokens by the mask token in training; the targets stay clean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.objectives.base import (
    LanguageModel,
    LossSum,
    Objective,
    WindowNats,
    chosen_states,
    evaluating,
    register,
    scored_places,
    to_device,
)
from crossover.trainers.objectives.passes import forward_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.config import TrialConfig
    from crossover.trainers.data import Batch, Vocabulary, Windows

__all__ = ["Autoregressive"]


@register
class Autoregressive(Objective):
    """log p(x) = sum_i log p(x_i | begin, x_0, ..., x_{i-1}).

    Args:
        begin: Id of the begin token.
        mask: Id of the mask token, which input noise puts in.
        input_noise: Share of input tokens but the begin token that training replaces by the mask.
    """

    name: ClassVar[str] = "autoregressive"
    causal: ClassVar[bool] = True
    sees_everything: ClassVar[bool] = False
    is_bound: ClassVar[bool] = False

    def __init__(self, *, begin: int, mask: int, input_noise: float = 0.0) -> None:
        self.begin = begin
        self.mask = mask
        self.input_noise = input_noise

    @classmethod
    def from_config(cls, config: TrialConfig, vocabulary: Vocabulary) -> Self:
        """With the configuration's input noise."""
        return cls(begin=vocabulary.begin, mask=vocabulary.mask, input_noise=config.regularization.input_noise)

    def training_loss(
        self, model: LanguageModel, batch: Batch, generator: torch.Generator, rows: slice | None = None
    ) -> LossSum:
        """Exact NLL of the clean targets."""
        rows = rows or slice(None)
        inputs_BL = self._inputs(batch.tokens_BL)
        if self.input_noise > 0:
            noisy_BL = torch.rand(inputs_BL.shape, generator=generator) < self.input_noise
            noisy_BL[:, 0] = False
            inputs_BL = inputs_BL.masked_fill(noisy_BL, self.mask)
        tokens_BL, valid_BL = batch.tokens_BL[rows], batch.valid_BL[rows]
        nats = model.nats_sum(*self._states(model, inputs_BL[rows], tokens_BL, valid_BL))
        return LossSum(nats, int(valid_BL.sum()))

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
        """The exact NLL of each window [W, 1]; there is nothing to draw."""
        nats_W1 = np.zeros((len(windows.tokens_WL), 1))
        scored_WL = scored_places(windows, given_W)
        with evaluating(model):
            for part in forward_passes(len(nats_W1), batch_size, rank, world_size):
                tokens_RL, scored_RL = windows.tokens_WL[part.rows_R], scored_WL[part.rows_R]
                nats_RL = torch.zeros(tokens_RL.shape, dtype=torch.float64)
                states = self._states(model, self._inputs(tokens_RL), tokens_RL, scored_RL)
                nats_RL[scored_RL] = model.nats(*states).double().cpu()
                nats_W1[part.own, 0] = nats_RL[: part.num_own].sum(1).numpy()
        return WindowNats(nats_W1)

    @property
    def training_head_fraction(self) -> float:
        """Every token is predicted."""
        return 1.0

    def evaluation_head_fraction(self, num_tokens: int) -> float:
        """Every token is predicted."""
        return 1.0

    def evaluation_passes(self, num_masks: int) -> int:
        """One: the likelihood is exact."""
        return 1

    def _inputs(self, tokens_BL: Tensor) -> Tensor:
        """[begin, x_0, ..., x_{L-2}]."""
        inputs_BL = tokens_BL.roll(1, dims=1)
        inputs_BL[:, 0] = self.begin
        return inputs_BL

    def _states(
        self, model: LanguageModel, inputs_BL: Tensor, tokens_BL: Tensor, valid_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen_BL = None if valid_BL.all() else to_device(valid_BL, model.device)
        h_BLD = model.hidden(to_device(inputs_BL, model.device), causal=True, valid_BL=seen_BL)
        return chosen_states(h_BLD, tokens_BL, valid_BL)
