"""What diffusion training hides: times, the share that is masked at each, which tokens, and what each weighs.

With a share m(t) masked at time t, the bound is E_t [m'(t) / m(t) sum over masked tokens of -log p] (arXiv 2406.04329,
2406.07524): the same number for every schedule, since it is an integral over m, with another variance.

Shape suffixes: B sequences, L sequence, R rows (blocks) of which each has a time of its own, S places in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from crossover.trainers.config import ObjectiveConfig

__all__ = ["Masked", "TrainingNoise", "in_blocks", "training_times"]

_FLOOR = 1e-3  # smallest t in training: bounds the weight 1/t; as in SMDM, LLaDA and arXiv 2507.15857


class Masked(NamedTuple):
    """What is hidden of a batch [B, L], and the weight of each token there."""

    masked_BL: Tensor
    weight_BL: Tensor


@dataclass(frozen=True)
class TrainingNoise:
    """How training masks; the defaults are those of a configuration.

    Attributes:
        schedule: Share masked at time t: t, cos(pi/2 (1 - t)) or t ** power.
        power: Of the polynomial.
        is_bound: Weights of the bound; else the same for every masked token, 1 on average over all tokens.
        sampling: How the times of a step are drawn.
        at_least_one: Whether a row in which nothing was masked gets one mask.
        realised: Whether weights divide by the share that was masked, not by the one that was to be.
    """

    schedule: Literal["linear", "cosine", "polynomial"] = "linear"
    power: float = 2.0
    is_bound: bool = True
    sampling: Literal["stratified", "iid", "antithetic"] = "stratified"
    at_least_one: bool = False
    realised: bool = False

    @classmethod
    def from_config(cls, config: ObjectiveConfig) -> TrainingNoise:
        """As a configuration says."""
        return cls(
            schedule=config.noise_schedule,
            power=config.noise_power,
            is_bound=config.loss_weight == "elbo",
            sampling=config.time_sampling,
            at_least_one=config.at_least_one_mask,
            realised=config.mask_fraction == "realised",
        )

    @property
    def mean_share(self) -> float:
        """Expected share of tokens that are masked, but for the rule that one is."""
        if self.schedule == "cosine":
            return 2 / math.pi * math.sin(math.pi / 2 * (1 - _FLOOR)) / (1 - _FLOOR)
        exponent = 1 + (self.power if self.schedule == "polynomial" else 1.0)
        return float((1 - _FLOOR**exponent) / (exponent * (1 - _FLOOR)))

    def draw(self, valid_BL: Tensor, generator: torch.Generator, block_length: int | None = None) -> Masked:
        """Masks and weights of a global batch.

        Args:
            valid_BL: False where padded.
            generator: CPU generator of the step.
            block_length: Tokens that share a time; None: a whole sequence.
        """
        length = valid_BL.shape[1]
        valid_RS = in_blocks(valid_BL, block_length or length)
        t_R1 = training_times(len(valid_RS), generator, self.sampling)[:, None]
        share_R1 = self._share(t_R1)
        masked_RS = (torch.rand(valid_RS.shape, generator=generator) < share_R1) & valid_RS
        if self.at_least_one:
            masked_RS = masked_RS | self._one_where_none(masked_RS, valid_RS, generator)
        weight_RS = self._weights(t_R1, share_R1, masked_RS, valid_RS).expand_as(masked_RS)
        batch = len(valid_BL)
        return Masked(masked_RS.reshape(batch, -1)[:, :length], weight_RS.reshape(batch, -1)[:, :length])

    def _share(self, t: Tensor) -> Tensor:
        if self.schedule == "cosine":
            return torch.cos(math.pi / 2 * (1 - t))
        return t if self.schedule == "linear" else t**self.power

    def _growth(self, t: Tensor) -> Tensor:
        """m'(t)."""
        if self.schedule == "cosine":
            return math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))
        return torch.ones_like(t) if self.schedule == "linear" else self.power * t ** (self.power - 1)

    def _weights(self, t_R1: Tensor, share_R1: Tensor, masked_RS: Tensor, valid_RS: Tensor) -> Tensor:
        if not self.is_bound:
            return torch.full_like(t_R1, 1 / self.mean_share)
        if self.realised:
            share_R1 = masked_RS.sum(1, keepdim=True) / valid_RS.sum(1, keepdim=True).clamp(min=1)
        return self._growth(t_R1) / share_R1  # infinite where nothing is masked, and then nobody reads it

    def _one_where_none(self, masked_RS: Tensor, valid_RS: Tensor, generator: torch.Generator) -> Tensor:
        drawn_RS = torch.rand(masked_RS.shape, generator=generator).masked_fill(~valid_RS, -1.0)
        one_RS = functional.one_hot(drawn_RS.argmax(1), masked_RS.shape[1]).bool()
        return one_RS & valid_RS & ~masked_RS.any(1, keepdim=True)


def training_times(
    num: int, generator: torch.Generator, sampling: Literal["stratified", "iid", "antithetic"] = "stratified"
) -> Tensor:
    """Times of [1e-3, 1) for so many rows.

    Args:
        num: Rows.
        generator: CPU generator of the step.
        sampling: One in each of as many equal strata, all shifted by one draw, in random order (arXiv 2107.00630,
            appendix I.1); or independent; or in pairs u and 1 - u.
    """
    if sampling == "stratified":
        shift = torch.rand((), generator=generator)
        stratum = torch.randperm(num, generator=generator)
        return _FLOOR + (1 - _FLOOR) * (stratum + shift) / num
    if sampling == "iid":
        return _FLOOR + (1 - _FLOOR) * torch.rand(num, generator=generator)
    half = torch.rand(-(-num // 2), generator=generator)
    return _FLOOR + (1 - _FLOOR) * torch.cat([half, 1 - half])[:num]


def in_blocks(values_BL: Tensor, block_length: int, fill: float = 0) -> Tensor:
    """Blocks of sequences as rows [B blocks, S]; the last block of a sequence is filled up."""
    missing = -values_BL.shape[1] % block_length
    if missing:
        values_BL = functional.pad(values_BL, (0, missing), value=fill)
    return values_BL.reshape(-1, block_length)
