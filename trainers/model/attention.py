"""Softmax attention: torch's kernels, but for the backward pass in bfloat16 on a CPU.

Torch's is slow there (it does not multiply in tiles of AMX), so for short sequences float32 is quicker. Here scores are
made again, a few heads at a time, so that they stay in the cache, by batched matrix products; it is an operator of our
own, which compilation leaves as it is. Forward and backward pass on one thread of a Xeon with AMX, ms, causal and not:

| batch x heads x length x head width | torch float32 | torch bfloat16 | here |
|---|---|---|---|
| 16 x 4 x 128 x 32 | 5.5, 5.5 | 20, 19 | 5.2, 4.9 |
| 16 x 8 x 256 x 32 | 41, 38 | 60, 59 | 34, 33 |
| 8 x 8 x 512 x 64 | 130, 133 | 100, 103 | 81, 73 |
| 4 x 8 x 1024 x 64 | 189, 243 | 129, 170 | 129, 133 |

Shape suffixes: B batch, L sequence, H heads, C head width, P pairs of sequence and head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["attend"]

_LONG, _VERY_LONG = 256, 1024
_CACHED_SCORES = 1 << 20  # a thread


def attend(
    q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor, mask_B1LL: Tensor | None, *, causal: bool, dropout: float
) -> Tensor:
    """Weighted sums of values [B, H, L, C], in the type of the values.

    Args:
        q_BHLC: Queries.
        k_BHLC: Keys; fewer heads are shared by groups of queries.
        v_BHLC: Values.
        mask_B1LL: True at positions that are seen, by all or by each; None: all.
        causal: Whether a position sees only itself and what is before it; with no mask.
        dropout: Of the weights.
    """
    kind, dtype, length = q_BHLC.device.type, v_BHLC.dtype, q_BHLC.shape[2]
    grouped, is_plain = q_BHLC.shape[1] != k_BHLC.shape[1], mask_B1LL is None and dropout == 0
    with torch.autocast(kind, enabled=False):
        if kind == "cpu" and dtype == torch.bfloat16 and torch.is_grad_enabled() and length < _VERY_LONG:
            if length >= _LONG and is_plain and not grouped:
                return cast(Tensor, _cpu_attention(q_BHLC.to(dtype), k_BHLC.to(dtype), v_BHLC, causal))
            dtype = torch.float32
        return functional.scaled_dot_product_attention(
            q_BHLC.to(dtype),
            k_BHLC.to(dtype),
            v_BHLC.to(dtype),
            attn_mask=mask_B1LL,
            dropout_p=dropout,
            is_causal=causal,
            enable_gqa=grouped,
        )


@torch.library.custom_op("crossover::cpu_attention", mutates_args=())
def _cpu_attention(q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor, causal: bool) -> Tensor:
    return functional.scaled_dot_product_attention(q_BHLC, k_BHLC, v_BHLC, is_causal=causal)


@torch.library.custom_op("crossover::cpu_attention_backward", mutates_args=())
def _cpu_attention_backward(
    dy_BHLC: Tensor, q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """With scores s = q k^T / sqrt(C) and p = softmax(s): ds = p (dp - sum(p dp)) where dp = dy v^T."""
    shape, scale = q_BHLC.shape, q_BHLC.shape[-1] ** -0.5
    q_PLC, k_PLC, v_PLC, dy_PLC = (x.reshape(-1, *shape[2:]) for x in (q_BHLC * scale, k_BHLC, v_BHLC, dy_BHLC))
    num_pairs, length = q_PLC.shape[:2]
    size = max(_CACHED_SCORES * torch.get_num_threads() // length**2, 1)
    p_SLL, dp_SLL = (q_PLC.new_empty(min(size, num_pairs), length, length) for _ in range(2))
    hidden_LL = q_PLC.new_full((length, length), -torch.inf).triu(1) if causal else None
    dq_PLC, dk_PLC, dv_PLC = (q_PLC.new_empty(q_PLC.shape) for _ in range(3))  # empty_like would keep strides
    for start in range(0, num_pairs, size):
        pairs = slice(start, start + size)
        q_SLC, k_SLC, dy_SLC = q_PLC[pairs], k_PLC[pairs], dy_PLC[pairs]
        p, dp = p_SLL[: len(q_SLC)], dp_SLL[: len(q_SLC)]
        torch.bmm(q_SLC, k_SLC.mT, out=p)
        if hidden_LL is not None:
            p += hidden_LL
        torch.softmax(p, dim=-1, out=p)
        torch.bmm(p.mT, dy_SLC, out=dv_PLC[pairs])
        torch.bmm(dy_SLC, v_PLC[pairs].mT, out=dp)
        torch.ops.aten._softmax_backward_data.out(dp, p, -1, p.dtype, grad_input=dp)
        torch.bmm(dp, k_SLC, out=dq_PLC[pairs])
        torch.bmm(dp.mT, q_SLC, out=dk_PLC[pairs])
    return dq_PLC.mul_(scale).view(shape), dk_PLC.view(shape), dv_PLC.view(shape)


@_cpu_attention.register_fake
def _(q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor, causal: bool) -> Tensor:
    batch, heads, length, width = q_BHLC.shape
    return q_BHLC.new_empty(batch, length, heads, width).transpose(1, 2)  # as torch's kernel lays it out


@_cpu_attention_backward.register_fake
def _(dy_BHLC: Tensor, q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    return q_BHLC.new_empty(q_BHLC.shape), q_BHLC.new_empty(q_BHLC.shape), q_BHLC.new_empty(q_BHLC.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.causal = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, dy_BHLC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return *_cpu_attention_backward(dy_BHLC, *ctx.saved_tensors, ctx.causal), None


_cpu_attention.register_autograd(_gradients, setup_context=_remember)
