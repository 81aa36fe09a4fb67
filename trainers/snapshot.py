"""What a commit is to write, copied out of the reach of the training that goes on meanwhile.

The copies lie in the same host memory at every commit (pinned, where they come from a GPU): a run on the CPU so holds
its state twice. Allocating anew would cost more than copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.rows import Evaluation
from crossover.trainers.shards import Piece

__all__ = ["HostBuffers", "Snapshot"]

Pieces = Mapping[str, Piece]


@dataclass(frozen=True)
class Snapshot:
    """One worker's share of a commit.

    Args:
        number: of the commit.
        evaluations: every row so far.
        groups: its pieces of the checkpoint's tensors, by group; None commits rows alone.
        scalars: the checkpoint's values.
        windows: losses of the validation windows by step, of every new row.
        best: step of the best row and this worker's pieces of its weights, if it is new.
    """

    number: int
    evaluations: Sequence[Evaluation]
    groups: Mapping[str, Pieces] | None
    scalars: Mapping[str, Any]
    windows: Mapping[int, NDArray[np.float32]]
    best: tuple[int, Pieces] | None


class HostBuffers:
    """Host memory that tensors are copied into, at every commit the same."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}

    def copied(self, groups: Mapping[str, Pieces]) -> dict[str, dict[str, Piece]]:
        """The same pieces with their numbers copied. The copies made before are overwritten."""
        copies = {
            group: {name: self._copy_of(group, name, piece) for name, piece in pieces.items()}
            for group, pieces in groups.items()
        }
        sources, targets = list(_tensors(groups)), list(_tensors(copies))
        if sources:
            torch._foreach_copy_(targets, sources, non_blocking=True)
        if any(source.is_cuda for source in sources):
            torch.cuda.current_stream().synchronize()
        return copies

    def _copy_of(self, group: str, name: str, piece: Piece) -> Piece:
        source = piece.tensor
        buffer = self._buffers.get((group, name))
        if buffer is None or (buffer.shape, buffer.dtype) != (source.shape, source.dtype):
            buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
            self._buffers[group, name] = buffer
        return Piece(buffer, piece.offsets, piece.shape)


def _tensors(groups: Mapping[str, Pieces]) -> Iterator[torch.Tensor]:
    return (piece.tensor for pieces in groups.values() for piece in pieces.values())
