"""Muon of matrices that lie in stacks, as the experts of a layer do: each matrix by itself, all of a stack at once.

FSDP shards a stack by whole matrices, so every worker orthogonalizes its own, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from crossover.trainers.sharded_muon import orthogonalized
from crossover.trainers.world import local_part

__all__ = ["StackedMuon"]

_RMS_OF_ADAMW = 0.2  # arXiv 2502.16982


class StackedMuon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, its updates as large as AdamW's (arXiv 2502.16982).

    Args:
        params: stacks of matrices [E, O, I], whole or sharded over E.
        lr: learning rate.
        weight_decay: decoupled.
        momentum: of the gradient.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every matrix.

        Raises:
            ValueError: a closure was given, or a stack has no gradient.
        """
        if closure is not None:
            raise ValueError("StackedMuon takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                update = self._with_momentum(parameter, group["momentum"])
                if update.numel():
                    stack = local_part(parameter)
                    stack.mul_(1 - group["lr"] * group["weight_decay"])
                    rate = group["lr"] * _RMS_OF_ADAMW * max(parameter.shape[1:]) ** 0.5
                    stack.add_(orthogonalized(update.to(torch.bfloat16)), alpha=-rate)

    def _with_momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The own matrices of the gradient, looking ahead along the momentum."""
        if parameter.grad is None:
            raise ValueError("a stack has no gradient")
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient, buffer = local_part(parameter.grad), local_part(state["momentum_buffer"])
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)
