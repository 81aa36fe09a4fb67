"""What every Muon shares: Nesterov momentum, an orthogonalized update as large as AdamW's, decoupled weight decay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossover.trainers.world import local_part

__all__ = ["Muon", "Shape"]

Shape = tuple[int, int]

_RMS_OF_ADAMW = 0.2  # arXiv 2502.16982


class Muon(torch.optim.Optimizer):
    """The update of `torch.optim.Muon` with `match_rms_adamw` (arXiv 2502.16982).

    Args:
        params: matrices [O, I], or stacks of them [E, O, I].
        lr: learning rate.
        weight_decay: decoupled.
        momentum: of the gradient.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @abstractmethod
    def orthogonalized(self, momenta: Sequence[Tensor]) -> Sequence[Tensor]:
        """The own part of every orthogonalized matrix, from the own part of every matrix, in their order."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every matrix; where they are sharded, all workers call it together.

        Raises:
            ValueError: a closure was given, or a matrix has no gradient.
        """
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            momenta = [self._with_momentum(parameter, group["momentum"]) for parameter in group["params"]]
            for parameter, update in zip(group["params"], self.orthogonalized(momenta), strict=True):
                rate = group["lr"] * _RMS_OF_ADAMW * max(parameter.shape[-2:]) ** 0.5
                part = local_part(parameter)
                part.mul_(1 - group["lr"] * group["weight_decay"])
                part.add_(update, alpha=-rate)

    def _with_momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The own part of the gradient, looking ahead along the momentum."""
        if parameter.grad is None:
            raise ValueError("a matrix has no gradient")
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient, buffer = local_part(parameter.grad), local_part(state["momentum_buffer"])
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)
