"""Mixture of experts in the place of a block's MLP: dropless, by one grouped product for all experts of a layer.

Rows are copied into the order of their experts and back. Both ways are gathers here, forward and backward: torch's
backward pass of a gather is a sum over duplicate places, several times slower, and on a GPU not the same twice.

Shape suffixes: B batch, L sequence, N tokens, D model, F hidden of an expert, E experts, K experts of a token, C tokens
of an expert, R rows: one for each token and expert of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossover.trainers.model.grouped import grouped_linear, row_alignment
from crossover.trainers.model.mlp import SwiGLU, lowered
from crossover.trainers.model.router import ExpertChoice, Routed, Router, TokenChoice

if TYPE_CHECKING:
    from crossover.trainers.config import RegularizationConfig
    from crossover.trainers.model.mixture_shape import Mixture

__all__ = ["MixtureOfExperts"]


class MixtureOfExperts(nn.Module):
    """SwiGLU experts, some chosen by a router, some shared by all tokens.

    Args:
        width: D.
        mixture: What it consists of.
        regularization: Its dropouts.
    """

    def __init__(self, width: int, mixture: Mixture, regularization: RegularizationConfig) -> None:
        super().__init__()
        num_experts, hidden = mixture.num_experts, mixture.expert_width
        self.dropout = regularization.mlp_dropout
        self.output_mask = regularization.expert_output_mask
        self.router = Router(width, mixture, regularization.expert_dropout)
        self.gate = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.up = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.out = nn.Parameter(torch.empty(num_experts, width, hidden))
        self.shared = SwiGLU(width, mixture.shared_width, self.dropout) if mixture.shared_width else None

    def forward(self, x_BLD: Tensor, valid_BL: Tensor | None) -> tuple[Tensor, Routed]:
        """What is added to the residual stream, and what the router did.

        Args:
            x_BLD: float32.
            valid_BL: False where padded; None: nothing is.
        """
        choice, routed = self.router(x_BLD, valid_BL)
        if self.training and self.output_mask > 0:
            choice = type(choice)(choice[0], functional.dropout(choice[1], self.output_mask))
        low_ND = lowered(x_BLD).flatten(0, 1)
        by = self._chosen_by_tokens if isinstance(choice, TokenChoice) else self._chosen_by_experts
        added_BLD = by(low_ND, choice).view_as(x_BLD)
        if self.shared is not None:
            added_BLD = added_BLD + self.shared(x_BLD)
        return added_BLD, routed

    def _chosen_by_tokens(self, x_ND: Tensor, choice: TokenChoice) -> Tensor:
        rows = _rows_by_expert(choice.expert_NK, len(self.gate))
        x_RD: Tensor = _Gathered.apply(x_ND, rows.source_R, rows.place_NK)  # type: ignore[no-untyped-call]
        y_RD = self._experts(x_RD, rows.ends_E)
        out_ND: Tensor = _Summed.apply(y_RD, choice.weight_NK, *rows[:2])  # type: ignore[no-untyped-call]
        return out_ND

    def _chosen_by_experts(self, x_ND: Tensor, choice: ExpertChoice) -> Tensor:
        batch, num_experts, _ = choice.place_BEC.shape
        first_B11 = torch.arange(batch, device=x_ND.device)[:, None, None] * (len(x_ND) // batch)
        source_ER, weight_ER = (
            _in_whole_groups(part_BEC.transpose(0, 1).flatten(1), row_alignment(x_ND.device))
            for part_BEC in (choice.place_BEC + first_B11, choice.weight_BEC)
        )
        ends_E = torch.arange(1, num_experts + 1, device=x_ND.device, dtype=torch.int32) * source_ER.shape[1]
        y_RD = self._experts(x_ND[source_ER.flatten()], ends_E)
        weighted_RD = y_RD.float() * weight_ER.reshape(-1, 1)
        return weighted_RD.new_zeros(x_ND.shape).index_add(0, source_ER.flatten(), weighted_RD)

    def _experts(self, x_RD: Tensor, ends_E: Tensor) -> Tensor:
        hidden_RF = functional.silu(grouped_linear(x_RD, self.gate, ends_E)) * grouped_linear(x_RD, self.up, ends_E)
        return grouped_linear(functional.dropout(hidden_RF, self.dropout, self.training), self.out, ends_E)


class _Rows(NamedTuple):
    """Where tokens are in the order of experts.

    Attributes:
        source_R: The token of each row; 0 where a row only fills its group up.
        place_NK: The row of each token for each of its experts.
        ends_E: int32, where the rows of each expert end.
    """

    source_R: Tensor
    place_NK: Tensor
    ends_E: Tensor


def _rows_by_expert(expert_NK: Tensor, num_experts: int) -> _Rows:
    """Rows in the order of their experts, and of tokens inside of one; shapes do not depend on who chose whom."""
    (num_tokens, num_chosen), device = expert_NK.shape, expert_NK.device
    alignment, num = row_alignment(device), num_tokens * num_chosen
    expert_T, order_T = expert_NK.flatten().sort(stable=True)
    count_E = torch.zeros(num_experts, dtype=torch.int64, device=device)
    count_E = count_E.scatter_add(0, expert_T, torch.ones_like(expert_T))
    filled_E = (count_E + alignment - 1).div(alignment, rounding_mode="floor") * alignment
    ends_E = filled_E.cumsum(0)
    shift_E = ends_E - filled_E - (count_E.cumsum(0) - count_E)
    row_T = torch.arange(num, device=device) + shift_E[expert_T]
    place_T = torch.empty_like(row_T).scatter(0, order_T, row_T)
    num_rows = num + (alignment - 1) * num_experts
    num_rows = -(-num_rows // alignment) * alignment
    source_R = row_T.new_zeros(num_rows).scatter(0, row_T, order_T.div(num_chosen, rounding_mode="floor"))
    return _Rows(source_R, place_T.view_as(expert_NK), ends_E.to(torch.int32))


def _in_whole_groups(part_ER: Tensor, alignment: int) -> Tensor:
    return functional.pad(part_ER, (0, -part_ER.shape[1] % alignment))


class _Gathered(torch.autograd.Function):
    """x_RD = x_ND[source]; backward, the sum over the rows of each token."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, source_R: Tensor, place_NK: Tensor) -> Tensor:
        ctx.save_for_backward(place_NK)
        return x_ND.index_select(0, source_R)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place_NK,) = ctx.saved_tensors
        first, *others = (gradients[0].index_select(0, place_N) for place_N in place_NK.unbind(1))
        for other in others:
            first = first + other
        return first, None, None


class _Summed(torch.autograd.Function):
    """y_ND = sum over k of w_NK y_RD[place]; rows that fill up groups have no gradient."""

    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, weight_NK: Tensor, source_R: Tensor, place_NK: Tensor) -> Tensor:
        ctx.save_for_backward(y_RD, weight_NK, source_R, place_NK)
        weights = weight_NK.to(y_RD.dtype).unsqueeze(2).unbind(1)
        first, *others = zip(place_NK.unbind(1), weights, strict=True)
        sum_ND = y_RD.index_select(0, first[0]) * first[1]
        for place_N, weight_N1 in others:
            sum_ND = torch.addcmul(sum_ND, y_RD.index_select(0, place_N), weight_N1)
        return sum_ND

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y_RD, weight_NK, source_R, place_NK = ctx.saved_tensors
        gradient_ND = gradients[0].to(y_RD.dtype)
        weight_R = weight_NK.new_zeros(len(source_R)).scatter(0, place_NK.flatten(), weight_NK.flatten())
        dy_RD = gradient_ND.index_select(0, source_R) * weight_R[:, None].to(y_RD.dtype)
        products = [
            (y_RD.index_select(0, place_N) * gradient_ND).sum(1, dtype=torch.float32) for place_N in place_NK.unbind(1)
        ]
        return dy_RD, torch.stack(products, dim=1).to(weight_NK.dtype), None, None
