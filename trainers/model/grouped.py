"""One matrix product a group of rows: what the experts of a mixture compute.

On a GPU torch's `grouped_mm`. On a CPU that is slow where it matters: the gradient of the weights takes 2.5 times what
the same products take one by one. And oneDNN compiles and keeps a kernel for each number of rows, of which routing has
new ones at every step. So here the rows of a group are taken in pieces of 128 to 1,024, the last one reaching beyond
the group: what it writes there is overwritten by the next group, which comes after it.

Shape suffixes: R rows, E groups, I columns in, O columns out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["grouped_linear", "row_alignment"]

_TILE, _MOST = 128, 1024
_GPU_ALIGNMENT = 16  # rows; its kernels want the groups to begin at multiples of 16 bytes


def row_alignment(device: torch.device) -> int:
    """Rows of which every group has a multiple."""
    return 1 if device.type == "cpu" else _GPU_ALIGNMENT


def grouped_linear(x_RI: Tensor, w_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """x W_e^T for the rows of each group e [R, O], in the type of x.

    Args:
        x_RI: Rows, by group. Those after the last group mean nothing, and nor does what comes of them.
        w_EOI: A matrix a group.
        ends_E: int32, where each group ends; multiples of `row_alignment`.
    """
    if x_RI.device.type != "cpu":
        product: Tensor = functional.grouped_mm(x_RI, w_EOI.to(x_RI.dtype).mT, offs=ends_E)
        return product
    return cast(Tensor, _cpu_grouped(x_RI, w_EOI, w_EOI.detach().to(x_RI.dtype), ends_E))


@torch.library.custom_op("crossover::cpu_grouped_linear", mutates_args=())
def _cpu_grouped(x_RI: Tensor, w_EOI: Tensor, low_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """`low_EOI` is `w_EOI` in the type of x, which the backward pass needs again."""
    return _products(x_RI, low_EOI.mT, ends_E)


@torch.library.custom_op("crossover::cpu_grouped_linear_backward", mutates_args=())
def _cpu_grouped_backward(
    dy_RO: Tensor, x_RI: Tensor, w_EOI: Tensor, low_EOI: Tensor, ends_E: Tensor
) -> tuple[Tensor, Tensor]:
    dy_RO = dy_RO.contiguous()
    return _products(dy_RO, low_EOI, ends_E), _weight_gradients(dy_RO, x_RI, w_EOI, ends_E)


def _products(x_RI: Tensor, w_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """Rows of each group times its matrix."""
    num_rows = len(x_RI)
    y_RO = x_RI.new_empty(num_rows + _TILE, w_EIO.shape[2])
    for group, piece, _ in _pieces(ends_E, x_RI.dtype):
        torch.mm(_filled_up(x_RI, piece), w_EIO[group], out=y_RO[piece])
    return y_RO[:num_rows]


def _weight_gradients(dy_RO: Tensor, x_RI: Tensor, w_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """Sum over the rows of each group of dy^T x; over pieces in the type of the weights."""
    gradient_EOI = torch.zeros_like(w_EOI)
    for group, piece, end in _pieces(ends_E, x_RI.dtype):
        own = slice(piece.start, min(piece.stop, end))
        dy_PO, x_PI, missing = dy_RO[own], x_RI[own], piece.stop - own.stop
        if missing > 0:
            dy_PO, x_PI = functional.pad(dy_PO, (0, 0, 0, missing)), functional.pad(x_PI, (0, 0, 0, missing))
        gradient_EOI[group] += dy_PO.T @ x_PI
    return gradient_EOI


def _pieces(ends_E: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, slice, int]]:
    """Group, rows of a piece, and where the group ends; float32 products need no tiles."""
    start = 0
    for group, end in enumerate(ends_E.tolist()):
        while start < end:
            num = min(end - start, _MOST)
            in_tiles = num if dtype == torch.float32 else -(-num // _TILE) * _TILE
            yield group, slice(start, start + in_tiles), end
            start += num


def _filled_up(x_RI: Tensor, rows: slice) -> Tensor:
    """These rows, with zeros for those that there are not."""
    missing = rows.stop - len(x_RI)
    return x_RI[rows] if missing <= 0 else functional.pad(x_RI[rows], (0, 0, 0, missing))


@_cpu_grouped.register_fake
def _(x_RI: Tensor, w_EOI: Tensor, low_EOI: Tensor, ends_E: Tensor) -> Tensor:
    return x_RI.new_empty(x_RI.shape[0], w_EOI.shape[1])


@_cpu_grouped_backward.register_fake
def _(dy_RO: Tensor, x_RI: Tensor, w_EOI: Tensor, low_EOI: Tensor, ends_E: Tensor) -> tuple[Tensor, Tensor]:
    return x_RI.new_empty(x_RI.shape), w_EOI.new_empty(w_EOI.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, dy_RO: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return *_cpu_grouped_backward(dy_RO, *ctx.saved_tensors), None, None


_cpu_grouped.register_autograd(_gradients, setup_context=_remember)
