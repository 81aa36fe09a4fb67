"""RMSNorm that is quick on a CPU, where torch has no fused one.

Forward and backward of [2048, 96] in float32 take 0.5 ms here and 1.0 ms by torch's; at 0.4M parameters that is a tenth
of a step. Elsewhere, and where it is compiled, torch's is fused, and is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RMSNorm"]

_EPSILON = 1e-6


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (arXiv 1910.07467), in and out in float32.

    Args:
        width: Size of the last dimension.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalized x, float32; sharding may give the weight in bfloat16."""
        weight = self.weight.float()
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return functional.rms_norm(x.float(), weight.shape, weight, _EPSILON)
        normalized: Tensor = _CpuRMSNorm.apply(x.float(), weight)  # type: ignore[no-untyped-call]
        return normalized


class _CpuRMSNorm(torch.autograd.Function):
    """With u = x / rms(x) of width D: dx = (g w - u mean(g w u)) / rms(x), dw = sum of g u."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean_square.add_(_EPSILON).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        scaled: Tensor = unit * weight
        return scaled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        unit, inverse, weight = ctx.saved_tensors
        product = gradient * unit
        mean = (product @ weight).unsqueeze(-1).div_(-len(weight))
        return (gradient * weight).addcmul_(unit, mean).mul_(inverse), product.reshape(-1, len(weight)).sum(0)
