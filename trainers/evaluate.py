"""Losses of held-out windows with their errors, and the paired comparison of two of them.

Windows of one document resemble each other, so errors are clustered by document; with documents as unequal as source
files, the plain sandwich is too small, and the one here corrects for it. Two models are compared window by window:
what makes a window hard is common to both and cancels, and so the error of a difference is several times smaller than
that of either loss.

Shape suffixes: W windows, M masks a window, G documents, R bins of the mask rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.world import World

if TYPE_CHECKING:
    from crossover.trainers.data import Windows
    from crossover.trainers.objectives import LanguageModel, Objective, WindowNats

__all__ = ["Paired", "WindowScores", "monte_carlo_se", "paired", "paired_bits_per_byte", "score", "within_windows"]

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

_RATE_BINS = 16
_ALONE = World()


@dataclass(frozen=True)
class WindowScores:
    """Nats of every window: NLL, or ELBO where the objective is a bound.

    A window that is not finite makes the loss non-finite or NaN, and that is meant: it is a divergence. Errors are
    NaN (unknown) where all windows are of one document.

    Attributes:
        nats_W: nats of a window, float32, mean over its masks; what the record keeps, so that a loss is the same bit
            for bit when it is computed from there.
        num_tokens_W: tokens scored.
        num_bytes_W: bytes of their text.
        document_W: document of each window.
        se_mc: Monte-Carlo error of `loss` on these windows, nats per token; 0 for an exact likelihood.
    """

    nats_W: Floats
    num_tokens_W: Integers
    num_bytes_W: Integers
    document_W: Integers
    se_mc: float = 0.0

    @property
    def loss(self) -> float:
        """Nats per token: all nats over all tokens."""
        return _ratio(self.nats_W, self.num_tokens_W)

    @property
    def loss_se(self) -> float:
        """Standard error of `loss`: choice of documents, windows and masks, clustered by document."""
        return _ratio_se(self.nats_W, self.num_tokens_W, self.document_W)

    @property
    def bits_per_byte(self) -> float:
        """The same nats as bits per byte of text, which does not depend on the tokenizer."""
        return _ratio(self.nats_W, self.num_bytes_W) / math.log(2)

    @property
    def bits_per_byte_se(self) -> float:
        """Standard error of `bits_per_byte`, clustered by document."""
        return _ratio_se(self.nats_W, self.num_bytes_W, self.document_W) / math.log(2)


@dataclass(frozen=True)
class Paired:
    """A difference over the same windows, with its own standard error."""

    difference: float
    se: float


def paired(a: WindowScores, b: WindowScores) -> Paired:
    """Loss of `a` less loss of `b` over the same windows, nats per token, clustered by document.

    NaN where either is; the error is NaN where all windows are of one document.

    Raises:
        ValueError: the two do not score the same windows.
    """
    return _paired(a, b, a.num_tokens_W)


def paired_bits_per_byte(a: WindowScores, b: WindowScores) -> Paired:
    """The same as `paired`, in bits per byte."""
    nats = _paired(a, b, a.num_bytes_W)
    return Paired(nats.difference / math.log(2), nats.se / math.log(2))


def score(
    model: LanguageModel,
    objective: Objective,
    windows: Windows,
    num_masks: int,
    seed: int,
    *,
    batch_size: int = 64,
    world: World = _ALONE,
) -> WindowScores:
    """Score every window, in evaluation mode and without gradient; the model's mode is restored.

    Several workers share the windows, and each gets the scores of all: the same bits. They call it together.

    Args:
        model: the weights to score.
        objective: an exact one scores each window once, a bound under `num_masks` masks.
        windows: what to score.
        num_masks: Monte-Carlo masks a window.
        seed: of the masks; the same seed gives the same masks to every model.
        batch_size: sequences a worker and forward pass.
        world: the workers.
    """
    result = objective.window_nats(
        model,
        windows,
        num_masks=num_masks,
        seed=seed,
        batch_size=batch_size,
        rank=world.rank,
        world_size=world.size,
    )
    nats_WM = world.sum(torch.from_numpy(result.nats_WM)).numpy()  # a worker has 0.0 where another scored
    return WindowScores(
        nats_W=nats_WM.mean(axis=1).astype(np.float32),
        num_tokens_W=windows.num_tokens_W,
        num_bytes_W=windows.num_bytes_W,
        document_W=windows.document_W,
        se_mc=monte_carlo_se(replace(result, nats_WM=nats_WM), windows.num_tokens_W),
    )


def monte_carlo_se(result: WindowNats, num_tokens_W: Integers) -> float:
    """Standard error, by the choice of masks alone, of the loss of these windows.

    The number of masked tokens k is stratified over all (window, mask) pairs, so what a rate k/n costs on average
    adds nothing to the error of the sum; nor does what makes a window hard, for the windows are given. What is left
    after a window effect and an effect of the rate, both times the weight of the mask, is the error: it is estimated
    from the residuals, whose variance these weights make alike. What masks of a window take off each other by balance
    is not in it, nor what they share: on a trained masked-diffusion model, 144 windows of 128 bytes, it was 0.7 to 1.1
    of the scatter over seeds.

    Args:
        result: of the windows, the shares of all workers together.
        num_tokens_W: tokens of each window.

    Returns:
        Nats per token; 0 for an exact likelihood; NaN where there is one mask a window, or a value is not finite.
    """
    k_WM = result.num_masked_WM
    if k_WM is None:
        return 0.0
    num_windows, num_masks = result.nats_WM.shape
    if num_masks < 2 or not np.isfinite(result.nats_WM).all():
        return math.nan
    bin_WM = np.minimum(k_WM * _RATE_BINS // num_tokens_W[:, None], _RATE_BINS - 1)
    weight_WM = result.weights
    columns = [within_windows(weight_WM * (bin_WM == rate), weight_WM) for rate in np.unique(bin_WM)[:-1]]
    rates = np.stack([column.ravel() for column in columns], axis=1) if columns else np.zeros((k_WM.size, 0))
    noise = within_windows(result.changed_by_masks, weight_WM).ravel()
    effect_R, _, num_effects, _ = np.linalg.lstsq(rates, noise, rcond=None)
    freedom = num_windows * (num_masks - 1) - num_effects
    if freedom <= 0:
        return math.nan
    residual_variance = float(((noise - rates @ effect_R) ** 2).sum()) / freedom
    return math.sqrt(residual_variance * num_windows / num_masks) / float(num_tokens_W.sum())


def within_windows(values_WM: Floats, weight_WM: Floats) -> Floats:
    """Values less their window's level, which enters each in proportion to its weight; least squares."""
    level_W1 = (values_WM * weight_WM).sum(axis=1, keepdims=True) / (weight_WM**2).sum(axis=1, keepdims=True)
    return np.asarray(values_WM - weight_WM * level_W1)


def _paired(a: WindowScores, b: WindowScores, per_W: Integers) -> Paired:
    for name in ("num_tokens_W", "num_bytes_W", "document_W"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise ValueError(f"only scores of the same windows can be paired: {name} differs")
    difference_W = a.nats_W.astype(np.float64) - b.nats_W
    return Paired(_ratio(difference_W, per_W), _ratio_se(difference_W, per_W, a.document_W))


def _ratio(nats_W: Floats, per_W: Integers) -> float:
    return float(nats_W.sum(dtype=np.float64) / per_W.sum())


def _ratio_se(nats_W: Floats, per_W: Integers, document_W: Integers) -> float:
    """Cluster-robust standard error of sum(nats) / sum(per), with the leverage of each document taken out.

    A document that holds a share h of all tokens pulls the ratio to itself and makes its own residual too small;
    dividing it by 1 - h undoes that. The result equals the jackknife that leaves out one document at a time (CV3 of
    MacKinnon, Nielsen and Webb, arXiv 2205.03285), and the usual G / (G - 1) sandwich where documents are equal.
    """
    documents, index_W = np.unique(document_W, return_inverse=True)
    num_documents = len(documents)
    per_G = np.bincount(index_W, weights=per_W, minlength=num_documents)
    left_out_G = per_G.sum() - per_G
    if num_documents < 2 or not left_out_G.all():
        return math.nan
    with np.errstate(invalid="ignore"):  # infinite nats make a NaN error, as they should
        residual_W = nats_W.astype(np.float64) - _ratio(nats_W, per_W) * per_W
    residual_G = np.bincount(index_W, weights=residual_W, minlength=num_documents)
    shift_G = residual_G / left_out_G
    return math.sqrt((num_documents - 1) / num_documents * float((shift_G**2).sum()))
