"""Next-token prediction with its exact likelihood.

A begin token is read first, so the first token of a sequence is scored too, and both objectives score the same tokens.
Input noise (arXiv 2511.03276) replaces input tokens by the mask token, or by random ones, in training; the targets stay
clean. The auxiliary loss of masked input (MIR, arXiv 2606.06888) is that of a second pass over the same tokens, whose
input has masks; it is minimized beside the clean loss, and is no part of the training loss that is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
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

__all__ = ["Autoregressive", "InputNoise"]


@dataclass(frozen=True)
class InputNoise:
    """What training does to the input of an autoregressive model.

    Attributes:
        share: Of the input tokens but the begin token that are replaced.
        is_uniform: Whether each sequence has a share of its own, uniform from 0 to `share`.
        num_random_tokens: Replaced by a token of so many, each as likely; None: by the mask.
        second_weight: Of the loss of a second pass; 0: there is none.
        second_share: Each sequence of it masks a share uniform from 0 to this.
    """

    share: float = 0.0
    is_uniform: bool = False
    num_random_tokens: int | None = None
    second_weight: float = 0.0
    second_share: float = 0.5


@register
class Autoregressive(Objective):
    """log p(x) = sum_i log p(x_i | begin, x_0, ..., x_{i-1}).

    Args:
        begin: Id of the begin token.
        mask: Id of the mask token, which input noise puts in.
        noise: What training does to its input.
    """

    name: ClassVar[str] = "autoregressive"
    causal: ClassVar[bool] = True
    sees_everything: ClassVar[bool] = False
    is_bound: ClassVar[bool] = False

    def __init__(self, *, begin: int, mask: int, noise: InputNoise | None = None) -> None:
        self.begin = begin
        self.mask = mask
        self.noise = noise or InputNoise()

    @classmethod
    def from_config(cls, config: TrialConfig, vocabulary: Vocabulary) -> Self:
        """With the configuration's input noise."""
        settings = config.regularization
        noise = InputNoise(
            share=settings.input_noise,
            is_uniform=settings.input_noise_rate == "uniform",
            num_random_tokens=vocabulary.num_output_tokens if settings.input_noise_kind == "random" else None,
            second_weight=settings.masked_input_loss,
            second_share=settings.masked_input_ratio,
        )
        return cls(begin=vocabulary.begin, mask=vocabulary.mask, noise=noise)

    def training_loss(
        self, model: LanguageModel, batch: Batch, generator: torch.Generator, rows: slice | None = None
    ) -> LossSum:
        """Exact NLL of the clean targets."""
        rows = rows or slice(None)
        inputs_BL = self._inputs(batch.tokens_BL)
        tokens_BL, valid_BL = batch.tokens_BL[rows], batch.valid_BL[rows]
        noisy_BL = self._noisy(inputs_BL, generator)
        nats = model.nats_sum(*self._states(model, noisy_BL[rows], tokens_BL, valid_BL))
        auxiliary_nats = None
        if self.noise.second_weight > 0:
            share_B1 = self.noise.second_share * torch.rand(len(inputs_BL), 1, generator=generator)
            masked_BL = inputs_BL.masked_fill(_chosen(inputs_BL, share_B1, generator), self.mask)
            second = model.nats_sum(*self._states(model, masked_BL[rows], tokens_BL, valid_BL))
            auxiliary_nats = self.noise.second_weight * second
        return LossSum(nats, int(valid_BL.sum()), auxiliary_nats)

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
    def training_passes(self) -> int:
        """One, and one of masked input."""
        return 2 if self.noise.second_weight > 0 else 1

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

    def _noisy(self, inputs_BL: Tensor, generator: torch.Generator) -> Tensor:
        noise = self.noise
        if noise.share == 0:
            return inputs_BL
        share: float | Tensor = noise.share
        if noise.is_uniform:
            share = noise.share * torch.rand(len(inputs_BL), 1, generator=generator)
        chosen_BL = _chosen(inputs_BL, share, generator)
        if noise.num_random_tokens is None:
            return inputs_BL.masked_fill(chosen_BL, self.mask)
        return inputs_BL.where(~chosen_BL, torch.randint(noise.num_random_tokens, inputs_BL.shape, generator=generator))

    def _states(
        self, model: LanguageModel, inputs_BL: Tensor, tokens_BL: Tensor, valid_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen_BL = None if valid_BL.all() else to_device(valid_BL, model.device)
        h_BLD = model.hidden(to_device(inputs_BL, model.device), causal=True, valid_BL=seen_BL)
        return chosen_states(h_BLD, tokens_BL, valid_BL)


def _chosen(inputs_BL: Tensor, share: float | Tensor, generator: torch.Generator) -> Tensor:
    """Places that lose their token: each with this chance, but never the begin token."""
    chosen_BL = torch.rand(inputs_BL.shape, generator=generator) < share
    chosen_BL[:, 0] = False
    return chosen_BL
