"""Masked (absorbing) diffusion: a bound on the likelihood, and what is trained.

By default training masks each token with probability t and weighs by 1/t (arXiv 2406.07524, 2502.09992), with times
that are stratified over the global batch, which takes away most of the variance that t adds; `noise.py` has the others.
Evaluation, whatever was trained, uses the same bound in its exact-k form (arXiv 2110.02037, 2406.03736; LLaDA's
estimator, 2502.09992 eq. 6): for a window of n tokens

    -log p(x) <= E_{k ~ U{1..n}} E_{|S| = k} (n/k) sum_{i in S} -log p(x_i | x outside of S)

which needs no floor of t and no rule that a token is masked. `evaluation_masks.py` says how S and k are drawn. Averaged
are costs less `_CONTROL` of what each token costs where nothing at all is seen, which is one pass over a single mask
token; the sum of these over the window is added, so the estimate is unbiased whatever they are.
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
from crossover.trainers.objectives.evaluation_masks import EvaluationMasks, mean_masked_share
from crossover.trainers.objectives.noise import TrainingNoise
from crossover.trainers.objectives.passes import forward_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.config import TrialConfig
    from crossover.trainers.data import Vocabulary, Windows

__all__ = ["MaskedDiffusion"]

_CONTROL = 0.75  # costs rise by 0.73 (few tokens hidden) to 0.85 (most) nats for each of a token's cost when unseen


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
        hideable_WL = scored_places(windows, given_W)
        masks = EvaluationMasks(hideable_WL, num_masks, seed)
        nats_R = np.zeros(masks.num_rows)
        with evaluating(model):
            control_WL = _CONTROL * self._unseen_nats(model, windows.tokens_WL) * hideable_WL
            for part in forward_passes(masks.num_rows, batch_size, rank, world_size):
                window_R, masked_RL = masks.rows(part.rows_R)
                tokens_RL, valid_RL = windows.tokens_WL[window_R], windows.valid_WL[window_R]
                costs_RL = torch.zeros(tokens_RL.shape, dtype=torch.float64)
                states = self._masked_states(model, tokens_RL, valid_RL, masked_RL)
                costs_RL[masked_RL] = model.nats(*states).double().cpu() - control_WL[window_R][masked_RL]
                estimate_R = costs_RL.sum(1) * masks.token_weight_R[part.rows_R] + control_WL[window_R].sum(1)
                nats_R[part.own] = estimate_R[: part.num_own].numpy()
        return WindowNats(nats_R.reshape(masks.k_WM.shape), masks.k_WM, masks.weight_WM, control_WL.sum(1).numpy())

    def evaluation_head_fraction(self, num_tokens: int) -> float:
        """E[k] / n."""
        return mean_masked_share(num_tokens)

    def _masked_states(
        self, model: LanguageModel, tokens_BL: Tensor, valid_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs_BL = to_device(tokens_BL.masked_fill(masked_BL, self.mask), model.device)
        attended_BL = None if valid_BL.all() else to_device(valid_BL, model.device)
        return chosen_states(model.hidden(inputs_BL, causal=False, valid_BL=attended_BL), tokens_BL, masked_BL)

    def _unseen_nats(self, model: LanguageModel, tokens_WL: Tensor) -> Tensor:
        """What each token costs where every token is masked, float64 [W, L]: the same at every place."""
        h_11D = model.hidden(to_device(torch.full((1, 1), self.mask), model.device), causal=False)
        tokens_U, place_N = np.unique(tokens_WL.numpy(), return_inverse=True)
        nats_U = model.nats(h_11D[0, :1].expand(len(tokens_U), -1), to_device(torch.from_numpy(tokens_U), model.device))
        return nats_U.double().cpu()[torch.from_numpy(place_N).view(tokens_WL.shape)]
