"""The backbone that every objective shares: only the attention mask and the loss differ between them.

Pre-RMSNorm, RoPE, SwiGLU, QK-norm, no biases; grouped-query attention, a tied head and experts where the shape says so.
Matrices stay apart (query, key, value, gate, up), so that Muon orthogonalizes each by itself; fused they are no faster
on a CPU. The loop applies autocast: matrix products and attention then run in its type, norms and the residual stream
in float32.

Shape suffixes: B batch, L sequence, D model, H query heads, K key-value heads, C head width, F hidden, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossover.trainers.model.attention import attend
from crossover.trainers.model.head import nats_of_each, weighted_nats
from crossover.trainers.model.mixture import MixtureOfExperts
from crossover.trainers.model.mlp import SwiGLU, lowered
from crossover.trainers.model.norm import RMSNorm
from crossover.trainers.model.router import Routed, Router, RoutingLog

if TYPE_CHECKING:
    from crossover.trainers.config import RegularizationConfig
    from crossover.trainers.model.shapes import ModelShape

__all__ = ["Transformer"]


class Transformer(nn.Module):
    """A decoder for causal, and an encoder for bidirectional use.

    Weights are drawn from torch's global generator: call `torch.manual_seed` before. Dropout draws from it too.

    Args:
        shape: Widths, depths and vocabularies.
        regularization: Its dropouts are the model's; they act in training mode only.
    """

    def __init__(self, shape: ModelShape, regularization: RegularizationConfig) -> None:
        super().__init__()
        self.shape = shape
        self.embedding_dropout = regularization.embedding_dropout
        self.routing_log: RoutingLog | None = None
        self.embedding = nn.Embedding(shape.num_input_tokens, shape.width)
        self.blocks = nn.ModuleList(Block(shape, regularization, layer) for layer in range(shape.num_layers))
        self.norm = RMSNorm(shape.width)
        self.head = None if shape.tie_embeddings else nn.Linear(shape.width, shape.num_output_tokens, bias=False)
        self._initialize()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    @property
    def routers(self) -> list[Router]:
        """Of the layers that have experts, from the first."""
        return [block.mlp.router for block in self.blocks if isinstance(block.mlp, MixtureOfExperts)]

    def weights(self) -> dict[str, Tensor]:
        """All that a trained model consists of, by name: parameters, and the buffers by which routers are balanced."""
        return dict(self.named_parameters()) | dict(self.named_buffers())

    def hidden(
        self,
        tokens_BL: Tensor,
        *,
        causal: bool,
        valid_BL: Tensor | None = None,
        visible_LL: Tensor | None = None,
        positions_L: Tensor | None = None,
    ) -> Tensor:
        """Normalized hidden states.

        Args:
            tokens_BL: Input token ids, padded on the right.
            causal: Whether a position sees only itself and what is before it.
            valid_BL: False where padded; None: nothing is padded. A causal mask hides padding from attention already,
                but routers count what they see. States of padded positions mean nothing.
            visible_LL: True where a position (a row) may see another; None: all, or what is before it.
            positions_L: Place of each position in its sequence, below L; None: as they come.

        Returns:
            h_BLD: float32.
        """
        rotation_LC2 = _rotation(tokens_BL.shape[1], self.shape.head_width, self.shape.rope_base, tokens_BL.device)
        if positions_L is not None:
            rotation_LC2 = rotation_LC2[positions_L]
        mask_B1LL = None if causal or valid_BL is None else valid_BL[:, None, None, :]
        if visible_LL is not None:
            mask_B1LL = visible_LL[None, None] if mask_B1LL is None else visible_LL & mask_B1LL
        x_BLD = functional.dropout(self.embedding(tokens_BL).float(), self.embedding_dropout, self.training)
        routed = []
        for block in self.blocks:
            x_BLD, routed_here = block(x_BLD, rotation_LC2, mask_B1LL, valid_BL, causal)
            routed.append(routed_here)
        if self.routing_log is not None:
            self.routing_log.passes.append([each for each in routed if each is not None])
        h_BLD: Tensor = self.norm(x_BLD)
        return h_BLD

    def logits(self, h: Tensor) -> Tensor:
        """Scores [..., V] of hidden states [..., D]."""
        return functional.linear(h, self._head_weight)

    def nats(self, h_ND: Tensor, tokens_N: Tensor) -> Tensor:
        """-log p of each token [N]; see `head.nats_of_each`."""
        return nats_of_each(h_ND, self._head_weight, tokens_N)

    def nats_sum(self, h_ND: Tensor, tokens_N: Tensor, scale_N: Tensor | None = None) -> Tensor:
        """Sum over tokens of scale times -log p, with gradient; see `head.weighted_nats`."""
        return weighted_nats(h_ND, self._head_weight, tokens_N, scale_N)

    def forward(self, tokens_BL: Tensor, *, causal: bool, valid_BL: Tensor | None = None) -> Tensor:
        """Scores of every position, logits_BLV."""
        return self.logits(self.hidden(tokens_BL, causal=causal, valid_BL=valid_BL))

    @property
    def _head_weight(self) -> Tensor:
        """[V, D]; a tied head is the first V rows of the input table."""
        if self.head is None:
            return self.embedding.weight[: self.shape.num_output_tokens]
        return self.head.weight

    def _initialize(self) -> None:
        """Normal weights; what adds to the residual stream is scaled by 1/sqrt(2 layers), as in GPT-2."""
        residual_std = self.shape.init_std / (2 * self.shape.num_layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                adds = name.endswith(("out.weight", "mlp.out"))
                nn.init.normal_(parameter, std=residual_std if adds else self.shape.init_std)


class Block(nn.Module):
    """Attention, then SwiGLU or a mixture of experts, each added to the residual stream."""

    def __init__(self, shape: ModelShape, regularization: RegularizationConfig, layer: int) -> None:
        super().__init__()
        self.dropout = regularization.dropout
        self.mlp_output_mask = regularization.mlp_output_mask
        self.skipped = regularization.stochastic_depth * (layer + 1) / shape.num_layers
        self.attention_norm = RMSNorm(shape.width)
        self.attention = Attention(shape, regularization.attention_dropout)
        self.mlp_norm = RMSNorm(shape.width)
        self.mlp: SwiGLU | MixtureOfExperts
        if shape.mixture is not None and layer >= shape.mixture.first_dense_layers:
            self.mlp = MixtureOfExperts(shape.width, shape.mixture, regularization)
        else:
            self.mlp = SwiGLU(shape.width, shape.mlp_width, regularization.mlp_dropout)

    def forward(
        self, x_BLD: Tensor, rotation_LC2: Tensor, mask_B1LL: Tensor | None, valid_BL: Tensor | None, causal: bool
    ) -> tuple[Tensor, Routed | None]:
        kept_B11 = self._whole(x_BLD[:, :1, :1], self.skipped)
        added_BLD = self.attention(self.attention_norm(x_BLD), rotation_LC2, mask_B1LL, causal)
        x_BLD = x_BLD + _times(functional.dropout(added_BLD, self.dropout, self.training), kept_B11)
        routed = None
        if isinstance(self.mlp, MixtureOfExperts):
            added_BLD, routed = self.mlp(self.mlp_norm(x_BLD), valid_BL)
        else:
            added_BLD = self.mlp(self.mlp_norm(x_BLD))
        added_BLD = _times(added_BLD, self._whole(x_BLD[:, :, :1], self.mlp_output_mask))
        return x_BLD + _times(functional.dropout(added_BLD, self.dropout, self.training), kept_B11), routed

    def _whole(self, like: Tensor, share: float) -> Tensor | None:
        """0 for this share of sequences or tokens, and for the others what makes up for it; None: all stay."""
        if share == 0 or not self.training:
            return None
        return functional.dropout(torch.ones_like(like), share)


class Attention(nn.Module):
    """Softmax attention of normalized and rotated queries and keys."""

    def __init__(self, shape: ModelShape, dropout: float) -> None:
        super().__init__()
        kv_width = shape.num_kv_heads * shape.head_width
        self.head_width = shape.head_width
        self.dropout = dropout
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, kv_width, bias=False)
        self.value = nn.Linear(shape.width, kv_width, bias=False)
        self.query_norm = RMSNorm(shape.head_width)
        self.key_norm = RMSNorm(shape.head_width)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x_BLD: Tensor, rotation_LC2: Tensor, mask_B1LL: Tensor | None, causal: bool) -> Tensor:
        x_BLD = lowered(x_BLD)
        q_BLHC, k_BLKC, v_BLKC = (
            project(x_BLD).unflatten(-1, (-1, self.head_width)) for project in (self.query, self.key, self.value)
        )
        y_BHLC = attend(
            _rotate(self.query_norm(q_BLHC), rotation_LC2).transpose(1, 2),
            _rotate(self.key_norm(k_BLKC), rotation_LC2).transpose(1, 2),
            v_BLKC.transpose(1, 2),
            mask_B1LL,
            causal=causal,
            dropout=self.dropout if self.training else 0.0,
        )
        added_BLD: Tensor = self.out(y_BHLC.transpose(1, 2).flatten(2))
        return added_BLD


def _times(added_BLD: Tensor, kept: Tensor | None) -> Tensor:
    return added_BLD if kept is None else added_BLD * kept.to(added_BLD.dtype)


def _rotation(length: int, head_width: int, base: float, device: torch.device) -> Tensor:
    """Cosines and sines of l base^(-2c/C) [L, C/2, 2], of the rotary embedding (arXiv 2104.09864)."""
    frequencies_C = base ** (-torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angles_LC = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies_C)
    return torch.view_as_real(torch.polar(torch.ones_like(angles_LC), angles_LC))


def _rotate(x_BLHC: Tensor, rotation_LC2: Tensor) -> Tensor:
    """Each pair of neighbouring channels turned by its angle.

    With complex numbers it is twice as fast on a CPU as with real ones; only these can be compiled.
    """
    pairs = x_BLHC.reshape(*x_BLHC.shape[:-1], -1, 2)
    if torch.compiler.is_compiling():
        (a, b), (cosine, sine) = pairs.unbind(-1), rotation_LC2[:, None].unbind(-1)
        return torch.stack((a * cosine - b * sine, a * sine + b * cosine), dim=-1).flatten(-2)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(rotation_LC2)[:, None]
    return torch.view_as_real(turned).flatten(-2)
