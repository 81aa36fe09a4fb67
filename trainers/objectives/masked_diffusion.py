"""Masked (absorbing) diffusion: a bound on the likelihood, and what is trained.

By default training masks each token with probability t and weighs by 1/t (arXiv 2406.07524, 2502.09992), with times
that are stratified over the global batch, which takes away most of the variance that t adds; `noise.py` has the others.
Evaluation, whatever was trained, uses the same bound in its exact-k form (arXiv 2110.02037, 2406.03736; LLaDA's
estimator, 2502.09992 eq. 6): for a window of n tokens

    -log p(x) <= E_{k ~ U{1..n}} E_{|S| = k} (n/k) sum_{i in S} -log p(x_i | x outside of S)

which needs no floor of t and no rule that a token is masked, and whose k is stratified.
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
from crossover.trainers.objectives.denoising import MASK_STREAM, Denoising, masked_counts
from crossover.trainers.objectives.noise import TrainingNoise
from crossover.trainers.objectives.passes import ForwardPass, forward_passes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from crossover.trainers.config import TrialConfig
    from crossover.trainers.data import Vocabulary, Windows

__all__ = ["MaskedDiffusion"]


@register
class MaskedDiffusion(Denoising):
    """Predicts masked tokens from all others."""

    name: ClassVar[str] = "masked_diffusion"
    sees_everything: ClassVar[bool] = True

    @classmethod
    def from_config(cls, config: TrialConfig, vocabulary: Vocabulary) -> Self:
        """With the configuration's noise."""
        return cls(mask=vocabulary.mask, noise=TrainingNoise.from_config(config.objective))

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
        """One estimate of the bound for each window and mask; see the module for the estimator."""
        num_tokens_W = windows.num_tokens_W if given_W is None else windows.num_tokens_W - given_W
        hideable_WL = scored_places(windows, given_W)
        random = np.random.default_rng([seed, MASK_STREAM])
        k_WM = masked_counts(num_tokens_W, num_masks, random.random())
        nats_R = np.zeros(k_WM.size)
        passes = forward_passes(k_WM.size, batch_size, rank, world_size)
        with evaluating(model):
            for part, tokens_RL, valid_RL, masked_RL in _masked_batches(windows, hideable_WL, k_WM, random, passes):
                nats_RL = torch.zeros(tokens_RL.shape, dtype=torch.float64)
                states = self._masked_states(model, tokens_RL, valid_RL, masked_RL)
                nats_RL[masked_RL] = model.nats(*states).double().cpu()
                nats_R[part.own] = nats_RL[: part.num_own].sum(1).numpy()
        return WindowNats(nats_R.reshape(k_WM.shape) * num_tokens_W[:, None] / k_WM, k_WM)

    def evaluation_head_fraction(self, num_tokens: int) -> float:
        """E[k] / n."""
        return (num_tokens + 1) / (2 * num_tokens)

    def _masked_states(
        self, model: LanguageModel, tokens_BL: Tensor, valid_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs_BL = to_device(tokens_BL.masked_fill(masked_BL, self.mask), model.device)
        attended_BL = None if valid_BL.all() else to_device(valid_BL, model.device)
        return chosen_states(model.hidden(inputs_BL, causal=False, valid_BL=attended_BL), tokens_BL, masked_BL)


def _masked_batches(
    windows: Windows,
    hideable_WL: Tensor,
    k_WM: NDArray[np.int64],
    random: np.random.Generator,
    passes: Iterable[ForwardPass],
) -> Iterator[tuple[ForwardPass, Tensor, Tensor, Tensor]]:
    """Rows (window, mask) in window-major order: tokens, validity and masks of each pass.

    The random stream is read for all rows in their order, so that masks depend neither on the batch size nor on the
    worker.
    """
    k_R = torch.from_numpy(k_WM.reshape(-1))
    length = windows.tokens_WL.shape[1]
    for part in passes:
        drawn_RL = torch.from_numpy(random.random((part.everyone.stop - part.everyone.start, length)))
        window_R = part.rows_R // k_WM.shape[1]
        tokens_RL, valid_RL = windows.tokens_WL[window_R], windows.valid_WL[window_R]
        order_RL = drawn_RL[part.rows_R - part.everyone.start].masked_fill(~hideable_WL[window_R], 2.0)
        rank_RL = order_RL.argsort(dim=1).argsort(dim=1)
        yield part, tokens_RL, valid_RL, rank_RL < k_R[part.rows_R, None]
