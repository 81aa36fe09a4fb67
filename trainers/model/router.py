"""Which experts see which tokens, and what keeps experts equally busy.

Nothing is dropped. Scores are float32. The auxiliary loss is n sum_e f_e P_e (arXiv 2101.03961): P_e is the mean score
of expert e, f_e its share of the choices, and its gradient flows through P alone. f is that of the whole global batch,
but of the step before, so that neither micro-batches nor workers change it: it would else be needed before the forward
passes that make it are done. A balancing bias (arXiv 2408.15664) enters the choice and not the weights, and is moved
once a step by the same counts. With experts that choose, each takes its share of a sequence by the scores of the tokens
in it (arXiv 2202.09368): a token then knows what others of its sequence scored, so no causal model may be trained so.

Shape suffixes: B batch, L sequence, N tokens, D model, E experts, K experts of a token, C tokens of an expert.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from crossover.trainers.model.mixture_shape import Mixture
    from crossover.trainers.model.transformer import Transformer

__all__ = ["ExpertChoice", "Routed", "Router", "RoutingLog", "TokenChoice", "observed_routing"]


class TokenChoice(NamedTuple):
    """Experts of each token, and how much each counts."""

    expert_NK: Tensor
    weight_NK: Tensor


class ExpertChoice(NamedTuple):
    """Tokens of each expert in each sequence, by their place in it, and how much each counts."""

    place_BEC: Tensor
    weight_BEC: Tensor


class Routed(NamedTuple):
    """What a layer's router did in one forward pass.

    Attributes:
        loss: Its auxiliary losses with their weights, summed over tokens, with gradient.
        count_E: Choices of each expert, float32.
        entropy: Nats of the scores of a token as probabilities, summed over tokens.
        first_N: The expert that scores highest for each token; -1 for padding.
    """

    loss: Tensor
    count_E: Tensor
    entropy: Tensor
    first_N: Tensor


class Router(nn.Module):
    """Scores every expert for every token, and chooses.

    Args:
        width: D.
        mixture: How it scores, chooses and balances.
        expert_dropout: Chance that an expert is out of reach of a token in training.
    """

    load: Tensor
    bias: Tensor

    def __init__(self, width: int, mixture: Mixture, expert_dropout: float) -> None:
        super().__init__()
        self.mixture = mixture
        self.expert_dropout = expert_dropout
        self.weight = nn.Parameter(torch.empty(mixture.num_experts, width))
        num_experts = mixture.num_experts
        if mixture.balancing == "loss":
            self.register_buffer("load", torch.full((num_experts,), 1 / num_experts))
        if mixture.balancing == "bias":
            self.register_buffer("bias", torch.zeros(num_experts))

    def forward(self, x_BLD: Tensor, valid_BL: Tensor | None) -> tuple[TokenChoice | ExpertChoice, Routed]:
        """What is chosen.

        Args:
            x_BLD: float32.
            valid_BL: False where padded; None: nothing is. Padding is routed and not counted, and no expert chooses it.
        """
        with torch.autocast(x_BLD.device.type, enabled=False):
            logits_BLE = functional.linear(x_BLD, self.weight.float())
            scores_BLE = logits_BLE.sigmoid() if self.mixture.scores == "sigmoid" else logits_BLE.softmax(-1)
            reach_BLE = self._within_reach(scores_BLE)
            choice: TokenChoice | ExpertChoice
            if self.mixture.by_expert:
                choice, count_E = self._by_experts(scores_BLE, reach_BLE, valid_BL)
            else:
                choice, count_E = self._by_tokens(scores_BLE.flatten(0, 1), reach_BLE, valid_BL)
            return choice, self._routed(logits_BLE, scores_BLE, valid_BL, count_E)

    @torch.no_grad()
    def rebalance(self, count_E: Tensor) -> None:
        """Takes in how often each expert was chosen in the global batch of a step."""
        if self.mixture.balancing == "loss":
            self.load.copy_(count_E / count_E.sum())
        if self.mixture.balancing == "bias":
            self.bias.add_(torch.sign(count_E.mean() - count_E), alpha=self.mixture.bias_rate)

    def _within_reach(self, scores_BLE: Tensor) -> Tensor | None:
        """Experts that a token may have; k at least are left to each."""
        if not (self.training and self.expert_dropout > 0):
            return None
        drawn_BLE = torch.rand_like(scores_BLE)
        lucky_BLK = drawn_BLE.topk(self.mixture.experts_per_token, dim=-1).indices
        return (drawn_BLE >= self.expert_dropout).scatter(-1, lucky_BLK, True)

    def _by_tokens(
        self, scores_NE: Tensor, reach_BLE: Tensor | None, valid_BL: Tensor | None
    ) -> tuple[TokenChoice, Tensor]:
        ranked_NE = scores_NE.detach()
        if self.mixture.balancing == "bias":
            ranked_NE = ranked_NE + self.bias
        if reach_BLE is not None:
            ranked_NE = ranked_NE.masked_fill(~reach_BLE.flatten(0, 1), -torch.inf)
        expert_NK = ranked_NE.topk(self.mixture.experts_per_token, dim=-1).indices
        weight_NK = scores_NE.gather(1, expert_NK)
        if self.mixture.normalize_weights:
            weight_NK = weight_NK / (weight_NK.sum(1, keepdim=True) + 1e-20)
        ones_NK = torch.ones_like(weight_NK) if valid_BL is None else valid_BL.flatten()[:, None].to(weight_NK)
        count_E = scores_NE.new_zeros(scores_NE.shape[1])
        count_E = count_E.scatter_add(0, expert_NK.flatten(), ones_NK.detach().expand_as(expert_NK).flatten())
        return TokenChoice(expert_NK, weight_NK), count_E

    def _by_experts(
        self, scores_BLE: Tensor, reach_BLE: Tensor | None, valid_BL: Tensor | None
    ) -> tuple[ExpertChoice, Tensor]:
        ranked_BLE, capacity = scores_BLE, self.mixture.capacity(scores_BLE.shape[1])
        if reach_BLE is not None:
            ranked_BLE = ranked_BLE * reach_BLE
        if valid_BL is not None:
            ranked_BLE = ranked_BLE.masked_fill(~valid_BL[:, :, None], -torch.inf)
        score_BCE, place_BCE = ranked_BLE.topk(capacity, dim=1)
        if valid_BL is not None:  # a shorter sequence gives each expert less
            rank_C = torch.arange(capacity, device=scores_BLE.device)
            score_BCE = score_BCE.where((rank_C < _capacities(self.mixture, valid_BL)[:, None])[:, :, None], 0.0)
        if self.mixture.normalize_weights:
            sum_BL1 = scores_BLE.new_zeros(scores_BLE.shape[:2]).scatter_add(
                1, place_BCE.flatten(1), score_BCE.flatten(1)
            )
            score_BCE = score_BCE / (sum_BL1.gather(1, place_BCE.flatten(1)).view_as(score_BCE) + 1e-20)
        count_E = (score_BCE.detach() > 0).float().sum((0, 1))
        return ExpertChoice(place_BCE.transpose(1, 2), score_BCE.transpose(1, 2)), count_E

    def _routed(self, logits_BLE: Tensor, scores_BLE: Tensor, valid_BL: Tensor | None, count_E: Tensor) -> Routed:
        shares_BLE = scores_BLE
        if self.mixture.scores == "sigmoid":
            shares_BLE = scores_BLE / (scores_BLE.sum(-1, keepdim=True) + 1e-20)
        loss_BL = logits_BLE.new_zeros(logits_BLE.shape[:2])
        if self.mixture.balance_loss > 0:
            loss_BL = loss_BL + self.mixture.balance_loss * self.mixture.num_experts * (shares_BLE @ self.load)
        if self.mixture.z_loss > 0:
            loss_BL = loss_BL + self.mixture.z_loss * logits_BLE.logsumexp(-1).square()
        with torch.no_grad():
            entropy_BL = torch.special.entr(shares_BLE).sum(-1)
            first_BL = scores_BLE.argmax(-1)
        if valid_BL is not None:
            loss_BL, entropy_BL = loss_BL * valid_BL, entropy_BL * valid_BL
            first_BL = first_BL.masked_fill(~valid_BL, -1)
        return Routed(loss_BL.sum(), count_E, entropy_BL.sum(), first_BL.flatten())


def _capacities(mixture: Mixture, valid_BL: Tensor) -> Tensor:
    """`mixture.capacity` of each sequence [B]."""
    num_B, n = valid_BL.sum(1), mixture.num_experts
    wanted_B = (2 * num_B * mixture.experts_per_token + n).div(2 * n, rounding_mode="floor")
    return torch.minimum(wanted_B.clamp(min=1), num_B)


@dataclass
class RoutingLog:
    """What the routers of a model did, forward pass by forward pass, layer by layer; empty for a dense model."""

    passes: list[list[Routed]] = field(default_factory=list)

    @property
    def loss(self) -> Tensor | None:
        """Auxiliary losses, summed over tokens, layers and passes; None of a dense model."""
        losses = [routed.loss for layers in self.passes for routed in layers]
        return torch.stack(losses).sum() if losses else None

    @property
    def counts(self) -> Tensor | None:
        """Choices of each expert in each layer that has some [layers, E], over all passes; None of a dense model."""
        counts = [torch.stack([routed.count_E for routed in layers]) for layers in self.passes if layers]
        return torch.stack(counts).sum(0) if counts else None


@contextmanager
def observed_routing(model: Transformer) -> Iterator[RoutingLog]:
    """What the routers of `model` do inside of the context."""
    before, model.routing_log = model.routing_log, RoutingLog()
    try:
        yield model.routing_log
    finally:
        model.routing_log = before
