"""AdamW for everything, or Muon for the hidden matrices with AdamW for the rest, as one object with named state.

Weight decay is on every matrix, the embedding table and the head included, and on no gain: what Megatron does, and
so the studies that this platform repeats (arXiv 2511.03276, 2510.03280), and nanoGPT. OLMo 2 (arXiv 2501.00656)
leaves the embedding table out, because small embeddings make large gradients in the first layers. Which is better
here, at the decays of 0.8 and more that repeated data wants, was not measured.

The state is tensors under parameter names, without pickle; rates are functions of the step and are not state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from crossover.trainers.checkpoint import load_into, shapes_of
from crossover.trainers.config import OptimizerConfig
from crossover.trainers.errors import ConfigError, RecordError
from crossover.trainers.muon import ShardedMuon, StackedMuon, WholeMuon

__all__ = ["TrainingOptimizer", "build_optimizer", "clip_gradients"]

Named = dict[str, nn.Parameter]

_MUON_MOMENTUM = 0.95  # of Keller Jordan's Muon; nanochat and Moonlight (arXiv 2502.16982) keep it
_HIDDEN = "blocks."


class TrainingOptimizer:
    """One or more torch optimizers that step together at one learning rate."""

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer], parameters: Named) -> None:
        """Join `optimizers` (by a name that enters the state's names) over `parameters` (by name)."""
        self._optimizers = dict(optimizers)
        self._name_of: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}

    def step(self, learning_rate: float, weight_decay: float | None = None) -> None:
        """Update the weights; non-finite gradients make non-finite weights, as they should.

        Args:
            learning_rate: of this update.
            weight_decay: of the matrices in this update; None: as it was.
        """
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
                if weight_decay is not None and group["params"][0].ndim >= 2:
                    group["weight_decay"] = weight_decay
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state: live tensors, not copies, by optimizer, parameter and quantity; empty before a step."""
        return {name: optimizer.state[parameter][key] for name, optimizer, parameter, key in self._entries()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved state, bit for bit. The tensors are copied; a worker of several takes its shards.

        Raises:
            RecordError: the state is that of another model or of another optimizer.
        """
        shapes = shapes_of(tensors)
        names = set(shapes)
        for prefix, optimizer in self._optimizers.items():
            ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                i: self._state_of(prefix, parameter, tensors, shapes, names) for i, parameter in enumerate(ordered)
            }
            optimizer.load_state_dict(
                {
                    "state": {i: entries for i, entries in state.items() if entries},
                    "param_groups": optimizer.state_dict()["param_groups"],
                }
            )
        if names:
            raise RecordError(
                f"the saved optimizer state does not fit: it has {sorted(names)[0]}, which this model and optimizer "
                "have not; continue this trial with the configuration it began with"
            )

    def _state_of(
        self,
        prefix: str,
        parameter: Tensor,
        tensors: Mapping[str, Tensor],
        shapes: Mapping[str, tuple[int, ...]],
        unused: set[str],
    ) -> dict[str, Tensor]:
        if not shapes:
            return {}
        state = {}
        for key in _STATE_KEYS[prefix]:
            name = f"{prefix}.{self._name_of[parameter]}.{key}"
            target = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)
            here, there = tuple(target.shape), shapes.get(name, "absent")
            if there != here:
                raise RecordError(
                    f"the saved optimizer state does not fit: {name} is {there} there and {here} here; continue "
                    "this trial with the configuration it began with"
                )
            load_into(target, tensors, name)
            unused.discard(name)
            state[key] = target
        return state

    def _entries(self) -> Iterator[tuple[str, torch.optim.Optimizer, Tensor, str]]:
        for prefix, optimizer in self._optimizers.items():
            for parameter, state in optimizer.state.items():
                for key in state:
                    yield f"{prefix}.{self._name_of[parameter]}.{key}", optimizer, parameter, key


_STATE_KEYS = {
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "muon": ("momentum_buffer",),
    "muon_of_experts": ("momentum_buffer",),
}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> TrainingOptimizer:
    """The optimizer of a model; the learning rate is given at each step.

    Of sharded parameters the state is sharded too, and the updates are those of whole ones.

    With `muon`, the matrices inside `model.blocks` are updated by Muon, scaled to the root mean square of AdamW's
    updates (Moonlight, arXiv 2502.16982), so that one learning rate and one weight decay serve both.

    Raises:
        ConfigError: muon for a model that has no hidden matrices.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = _hidden_matrices(parameters) if config.name == "muon" else {}
    rest = {name: parameter for name, parameter in parameters.items() if name not in hidden}
    optimizers: dict[str, torch.optim.Optimizer] = {"adamw": _adamw(rest, config)}
    if hidden:
        optimizers["muon"] = _muon({name: p for name, p in hidden.items() if p.ndim == 2}, config)
    if stacks := [p for p in hidden.values() if p.ndim == 3]:
        optimizers["muon_of_experts"] = StackedMuon(
            stacks, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=_MUON_MOMENTUM
        )
    return TrainingOptimizer(optimizers, parameters)


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm`.

    Returns:
        The norm before clipping, a scalar on the model's device; non-finite where a gradient is.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm, foreach=True)
    full = getattr(norm, "full_tensor", None)
    return norm if full is None else cast(Tensor, full())


def _hidden_matrices(parameters: Named) -> Named:
    hidden = {name: p for name, p in parameters.items() if p.ndim >= 2 and name.startswith(_HIDDEN)}
    if not hidden:
        raise ConfigError(
            "optimizer.name is muon, which updates the matrices inside the model's blocks, and this model has none: "
            "set optimizer.name to adamw"
        )
    return hidden


def _muon(hidden: Named, config: OptimizerConfig) -> torch.optim.Optimizer:
    matrices = list(hidden.values())
    kind = ShardedMuon if hasattr(matrices[0], "device_mesh") else WholeMuon  # a DTensor has a mesh
    return kind(matrices, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=_MUON_MOMENTUM)


def _adamw(parameters: Named, config: OptimizerConfig) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
