"""Muon of matrices that lie in stacks, as the experts of a layer do: each matrix by itself, all of a stack at once.

FSDP shards a stack by whole matrices, so every worker orthogonalizes its own, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossover.trainers.muon.base import Muon
from crossover.trainers.muon.newton_schulz import orthogonalized

__all__ = ["StackedMuon"]


class StackedMuon(Muon):
    """Muon of stacks of matrices [E, O, I], whole or sharded over E."""

    def orthogonalized(self, momenta: Sequence[Tensor]) -> Sequence[Tensor]:
        """The own matrices of every stack, bfloat16; a worker may have none."""
        return [orthogonalized(own.to(torch.bfloat16)) if own.numel() else own for own in momenta]
