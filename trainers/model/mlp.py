"""The dense MLP of a block, and what all matrix products of a block share.

Shape suffixes: B batch, L sequence, D model, F hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SwiGLU", "lowered"]


class SwiGLU(nn.Module):
    """silu(x W_gate) * (x W_up), then W_out (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden_width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.up = nn.Linear(width, hidden_width, bias=False)
        self.out = nn.Linear(hidden_width, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """What is added to the residual stream."""
        x_BLD = lowered(x_BLD)
        hidden_BLF = functional.silu(self.gate(x_BLD)) * self.up(x_BLD)
        added_BLD: Tensor = self.out(functional.dropout(hidden_BLF, self.dropout, self.training))
        return added_BLD


def lowered(x: Tensor) -> Tensor:
    """In autocast's type, once: each matrix product would cast it again."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
