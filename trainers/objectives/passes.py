"""Which rows of an evaluation each worker scores, in passes that all workers make together.

Weights that are sharded are gathered in every pass, so a worker that made fewer passes than another would leave it
waiting for ever: one that has no row left scores another row again and drops the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ForwardPass", "forward_passes"]


@dataclass(frozen=True)
class ForwardPass:
    """One pass of every worker, as one of them sees it.

    Attributes:
        everyone: Rows that the workers score between them.
        rows_R: int64, rows that this worker reads; as many for each worker, the last ones repeated if need be.
        own: Rows that this worker answers for: the first of `rows_R`, none repeated; may be empty.
    """

    everyone: slice
    rows_R: Tensor
    own: slice

    @property
    def num_own(self) -> int:
        """How many of `rows_R` count, from the first."""
        num: int = self.own.stop - self.own.start
        return num


def forward_passes(num_rows: int, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[ForwardPass]:
    """Passes over all rows, in order; the same number of them on every worker.

    Args:
        num_rows: Rows to score.
        batch_size: Most rows of one worker in one pass.
        rank: This worker.
        world_size: Workers.
    """
    for start in range(0, num_rows, batch_size * world_size):
        stop = min(start + batch_size * world_size, num_rows)
        share = -(-(stop - start) // world_size)
        first = start + rank * share
        rows_R = torch.arange(first, first + share).clamp(max=stop - 1)
        yield ForwardPass(slice(start, stop), rows_R, slice(min(first, stop), min(first + share, stop)))
