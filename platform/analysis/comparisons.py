"""Paired comparison of two objectives over seeds, and the interval of a mean that has two sources of error.

Seeds differ in their data and initialisation; all seeds are scored on the same documents, so the error of the documents
does not show between seeds and does not shrink with their number. The variance of the mean is therefore
`s^2 / S + v`, with s^2 between the S seeds and v the clustered variance of the seeds' mean over documents, and the
interval Student's t with Satterthwaite's degrees of freedom. v has a part of s^2 in it (1/S of what seeds and documents
do to each other), so the interval errs on the wide side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from crossover.platform.analysis.losses import DocumentLosses

__all__ = ["Mean", "clustered_mean", "mean_difference", "mean_over_seeds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over seeds in bits per byte, with its 95 % interval.

    Args:
        mean: over seeds.
        se: standard error, both sources.
        low: lower end of the 95 % interval.
        high: upper end.
        num_seeds: with 1 the interval holds the error of the documents only and says nothing of other seeds.
        per_seed: each seed's value.
        per_seed_se: each seed's standard error, clustered by document.
    """

    mean: float
    se: float
    low: float
    high: float
    num_seeds: int
    per_seed: tuple[float, ...]
    per_seed_se: tuple[float, ...]

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def clustered_mean(nats_D: Floats, bytes_D: Floats) -> tuple[float, float]:
    """Bits per byte of a sum over documents, and its standard error by linearisation of the ratio.

    Args:
        nats_D: nats of each document, or a difference of two objectives' nats.
        bytes_D: bytes of each document.
    """
    scale = bytes_D.sum() * np.log(2)
    value = nats_D.sum() / scale
    residual_D = nats_D / scale - value * bytes_D / bytes_D.sum()
    num = len(nats_D)
    se = np.sqrt(num / (num - 1) * (residual_D**2).sum()) if num > 1 else np.inf
    return float(value), float(se)


def mean_over_seeds(nats_SD: Floats, bytes_D: Floats, *, level: float = 0.95) -> Mean:
    """Mean over seeds of bits per byte, with both sources of error.

    Args:
        nats_SD: nats by seed and document, the same documents for all seeds.
        bytes_D: bytes of each document.
        level: coverage of the interval.
    """
    seeds = [clustered_mean(nats_D, bytes_D) for nats_D in nats_SD]
    values = np.array([value for value, _ in seeds])
    _, document_se = clustered_mean(nats_SD.mean(axis=0), bytes_D)
    of_documents = document_se**2
    of_seeds = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    variance = of_documents + of_seeds
    if not np.isfinite(variance):
        degrees = 1.0
    elif of_seeds == 0.0:
        degrees = float(len(bytes_D) - 1)
    else:
        degrees = variance**2 / (of_seeds**2 / (len(values) - 1) + of_documents**2 / (len(bytes_D) - 1))
    half = float(stdtrit(degrees, 0.5 + level / 2)) * float(np.sqrt(variance))
    mean = float(values.mean())
    return Mean(
        mean=mean,
        se=float(np.sqrt(variance)),
        low=mean - half,
        high=mean + half,
        num_seeds=len(values),
        per_seed=tuple(float(v) for v in values),
        per_seed_se=tuple(se for _, se in seeds),
    )


def mean_difference(first: Sequence[DocumentLosses], second: Sequence[DocumentLosses]) -> Mean:
    """Mean over seeds of `first - second` in bits per byte, paired by seed and by document.

    Args:
        first: one split's losses, a seed each, one column.
        second: the other objective's, of the same seeds in the same order, on the same windows.
    """
    nats_SD = np.stack([a.nats_DE[:, 0] - b.nats_DE[:, 0] for a, b in zip(first, second, strict=True)])
    return mean_over_seeds(nats_SD, first[0].bytes_D)
