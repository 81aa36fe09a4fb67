"""A causal forward pass that goes on: keys and values of what was read are kept, and only new tokens are computed.

It calls the model's own layers, and so gives the states of `Transformer.hidden` over the whole sequence.

Shape suffixes: B batch, T new tokens, L tokens read so far, D model, H heads, K key-value heads, C head width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from crossover.trainers.model.mixture import MixtureOfExperts
from crossover.trainers.model.mlp import SwiGLU
from crossover.trainers.model.transformer import Transformer

__all__ = ["CachedDecoder"]


class CachedDecoder:
    """Reads tokens in pieces.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._length = 0
        self._keys_values: list[tuple[Tensor, Tensor] | None] = [None] * model.shape.num_layers

    def read(self, tokens_BT: Tensor) -> Tensor:
        """Normalized states h_BTD of further tokens, each of which sees all before it."""
        angles_TC = self._angles(tokens_BT.shape[1])
        x_BTD = self._model.embedding(tokens_BT).float()
        for number, block in enumerate(self._model.blocks):
            layer = cast(Any, block)
            x_BTD = x_BTD + self._attend(number, layer.attention, layer.attention_norm(x_BTD), angles_TC)
            x_BTD = x_BTD + _mlp(layer.mlp, layer.mlp_norm(x_BTD))
        self._length += tokens_BT.shape[1]
        h_BTD: Tensor = self._model.norm(x_BTD)
        return h_BTD

    def _attend(self, number: int, attention: Any, x_BTD: Tensor, angles_TC: Tensor) -> Tensor:
        q_BTHC, k_BTKC, v_BTKC = (
            project(x_BTD).unflatten(-1, (-1, attention.head_width))
            for project in (attention.query, attention.key, attention.value)
        )
        q_BHTC = _turned(attention.query_norm(q_BTHC), angles_TC).transpose(1, 2)
        k_BKTC = _turned(attention.key_norm(k_BTKC), angles_TC).transpose(1, 2)
        k_BKLC, v_BKLC = self._extended(number, k_BKTC, v_BTKC.transpose(1, 2))
        num_new = q_BHTC.shape[2]
        mask_TL = None
        if num_new > 1:
            mask_TL = torch.ones(num_new, k_BKLC.shape[2], dtype=torch.bool, device=q_BHTC.device).tril(self._length)
        y_BHTC = functional.scaled_dot_product_attention(
            q_BHTC.to(v_BKLC.dtype), k_BKLC.to(v_BKLC.dtype), v_BKLC, attn_mask=mask_TL, enable_gqa=True
        )
        added_BTD: Tensor = attention.out(y_BHTC.transpose(1, 2).flatten(2))
        return added_BTD

    def _extended(self, number: int, k_BKTC: Tensor, v_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        before = self._keys_values[number]
        if before is not None:
            k_BKTC, v_BKTC = torch.cat([before[0], k_BKTC], dim=2), torch.cat([before[1], v_BKTC], dim=2)
        self._keys_values[number] = k_BKTC, v_BKTC
        return k_BKTC, v_BKTC

    def _angles(self, num_new: int) -> Tensor:
        """l base^(-2c/C) of the new places, as in `transformer.py`."""
        shape, device = self._model.shape, self._model.device
        exponents_C = -torch.arange(0, shape.head_width, 2, device=device, dtype=torch.float32) / shape.head_width
        places_T = torch.arange(self._length, self._length + num_new, device=device, dtype=torch.float32)
        return torch.outer(places_T, shape.rope_base**exponents_C)


def _mlp(mlp: SwiGLU | MixtureOfExperts, x_BTD: Tensor) -> Tensor:
    """What the MLP adds; tokens choose experts one by one, so those that came before need not be there."""
    if isinstance(mlp, MixtureOfExperts):
        x_BTD, _ = mlp(x_BTD, None)
        return x_BTD
    added_BTD: Tensor = mlp(x_BTD)
    return added_BTD


def _turned(x_BTHC: Tensor, angles_TC: Tensor) -> Tensor:
    """Each pair of neighbouring channels turned by its angle."""
    a, b = x_BTHC.reshape(*x_BTHC.shape[:-1], -1, 2).unbind(-1)
    cosine, sine = angles_TC.cos()[:, None], angles_TC.sin()[:, None]
    return torch.stack((a * cosine - b * sine, a * sine + b * cosine), dim=-1).flatten(-2)
