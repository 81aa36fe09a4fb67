"""The best loss that a law gives for C FLOPs: over N, with at least one epoch, D = C / (6 N).

All draws and budgets at once: a grid of sizes, a finer grid around its best, and the vertex of a parabola.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Law
from crossover.platform.analysis.scaling_laws.sizes import Points

__all__ = ["Best", "FittedFamily", "best_over_sizes", "loss_at"]

Floats = NDArray[np.float64]
_NUM_SIZES = 24
_NUM_FINE = 9
_LOG_6 = np.log(6.0)


@dataclass(frozen=True)
class FittedFamily:
    """One family's law: row 0 of the parameters is the optimum, the others are draws.

    Args:
        theta_BP: internal.
        log_sizes: smallest and largest ln N that is considered.
    """

    name: str
    law: Law
    theta_BP: Floats
    log_sizes: tuple[float, float]

    def take(self, which: NDArray[np.intp] | slice) -> FittedFamily:
        """Some of the rows."""
        return FittedFamily(self.name, self.law, self.theta_BP[which], self.log_sizes)


@dataclass(frozen=True)
class Best:
    """Arrays [B, C]: ln of the best loss at each budget, and ln N there; inf where one epoch of no size fits."""

    log_loss: Floats
    log_params: Floats


def loss_at(family: FittedFamily, log_params: Floats, log_tokens: Floats, log_unique: Floats) -> Floats:
    """ln loss at arrays [B, ...] or broadcasting to them."""
    shape = np.broadcast_shapes((len(family.theta_BP), 1), log_params.shape, log_tokens.shape, np.shape(log_unique))
    flat = [np.broadcast_to(value, shape).reshape(shape[0], -1) for value in (log_params, log_tokens, log_unique)]
    return family.law.log_loss(family.theta_BP, Points(*flat)).reshape(shape)


def best_over_sizes(
    family: FittedFamily, log_flops: Floats, log_unique: float | Floats, *, least_epochs: float = 1.0
) -> Best:
    """The best loss for each budget.

    Args:
        family: its law.
        log_flops: ln C, [C] or [B, C].
        log_unique: ln U, one number or broadcasting to [B, C].
        least_epochs: epochs that a run must have; 0 lets it leave unique tokens out.
    """
    shape = (len(family.theta_BP), np.shape(log_flops)[-1])
    log_flops, log_unique = (np.broadcast_to(np.asarray(v, np.float64), shape) for v in (log_flops, log_unique))
    smallest, largest = family.log_sizes
    with np.errstate(divide="ignore"):
        most = np.minimum(largest, log_flops - _LOG_6 - log_unique - np.log(least_epochs))
    possible = most >= smallest
    most = np.maximum(most, smallest)
    low, high = np.full(shape, smallest), most
    for num in (_NUM_SIZES, _NUM_FINE):
        share = np.linspace(0.0, 1.0, num)
        sizes = low[..., None] + (high - low)[..., None] * share
        losses = _losses(family, sizes, log_flops, log_unique)
        best = losses.argmin(axis=2)
        low = _at(sizes, np.maximum(best - 1, 0))
        high = _at(sizes, np.minimum(best + 1, num - 1))
    log_loss, log_params = _vertex(sizes, losses, best)
    return Best(np.where(possible, log_loss, np.inf), log_params)


def _losses(family: FittedFamily, sizes_BCK: Floats, log_flops: Floats, log_unique: Floats) -> Floats:
    tokens = log_flops[..., None] - _LOG_6 - sizes_BCK
    unique = np.broadcast_to(log_unique[..., None], sizes_BCK.shape)
    flat = [value.reshape(len(sizes_BCK), -1) for value in (sizes_BCK, tokens, unique)]
    return family.law.log_loss(family.theta_BP, Points(*flat)).reshape(sizes_BCK.shape)


def _at(values_BCK: Floats, place_BC: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(values_BCK, place_BC[..., None], axis=2)[..., 0]


def _vertex(sizes: Floats, losses: Floats, best: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Of the parabola through the best and its neighbours; the best itself at an end."""
    last = sizes.shape[2] - 1
    inside = (best > 0) & (best < last)
    middle = np.clip(best, 1, last - 1)
    before, here, after = (_at(losses, middle + shift) for shift in (-1, 0, 1))
    step = _at(sizes, middle) - _at(sizes, middle - 1)
    bend = before - 2 * here + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend > 0, 0.5 * (before - after) / bend, 0.0)
    shift = np.clip(np.nan_to_num(shift), -1.0, 1.0)
    log_loss = np.where(inside, here - 0.25 * (before - after) * shift, _at(losses, best))
    log_params = np.where(inside, _at(sizes, middle) + shift * step, _at(sizes, best))
    return log_loss, log_params
