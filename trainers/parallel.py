"""How a model is spread over workers, in fixed order: recompute, compile, shard. The model knows nothing of it.

Objectives call methods of the model (`hidden`, `nats_sum`) and never its `forward`. So the whole loss of a forward pass
is one call of `Parallel`, the root module of FSDP: what lies outside of the blocks (table, last norm, head, tied or
not) is gathered once before it and its gradients are reduced once after its backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from crossover.trainers.config import ExecutionConfig
from crossover.trainers.device import Runtime
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.world import World

__all__ = ["Parallel", "parallelize"]

T = TypeVar("T")

_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.crossover.cpu_attention.default,
}
_EXPERTS = {torch.ops.aten._grouped_mm.default, torch.ops.crossover.cpu_grouped_linear.default}
_KEPT_OPERATIONS = _ATTENTION | _EXPERTS | {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


class Parallel(nn.Module):
    """Calls a function with the weights of a model at hand, wherever their shards are.

    Args:
        model: whose blocks are prepared already.
    """

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], T]) -> T:
        """What `function` gives; a tensor that it returns may be differentiated. All workers call it together."""
        return function()

    def evaluate(self, function: Callable[[], T]) -> T:
        """The same without a backward pass after it: gathered weights are let go of at once."""
        try:
            return cast(T, self(function))
        finally:
            if (reshard := getattr(self, "reshard", None)) is not None:
                reshard()


def parallelize(model: Transformer, execution: ExecutionConfig, runtime: Runtime, world: World) -> Parallel:
    """Prepares `model` in place; its parameters are DTensors afterwards where there are several workers.

    Args:
        model: on the processor, whole, with its initial weights, the same on every worker.
        execution: what to recompute, and how many replicas.
        runtime: device, precision, and whether to compile.
        world: the workers.
    """
    for block in model.blocks:
        if execution.activation_checkpointing != "none":
            selective = execution.activation_checkpointing == "selective"
            block.forward = _recomputed(block.forward, selective)
        if runtime.compile:
            block.forward = torch.compile(block.forward)
    root = Parallel(model)
    if world.size == 1:
        root.to(runtime.device)
    else:
        _shard(root, execution.replicas, runtime, world)  # moves each block to the device by itself
    return root


def _recomputed(forward: Callable[..., Any], selective: bool) -> Callable[..., Any]:
    """`forward`, which keeps for its backward pass its inputs only, or also what products and attention gave."""
    keep: dict[str, Any] = {}
    if selective:
        keep["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)

    def recomputed(*arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments)
        return checkpoint(forward, *arguments, use_reentrant=False, **keep)

    return recomputed


def _policy(context: Any, operation: Any, *arguments: Any, **keywords: Any) -> CheckpointPolicy:
    kept = operation in _KEPT_OPERATIONS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _shard(root: Parallel, replicas: int, runtime: Runtime, world: World) -> None:
    """FSDP2 of each block, the rest last; gradients are summed, for a loss is divided by the tokens of all workers.

    In bfloat16 the weights are gathered as such and gradients reduced in float32. Activations are left as they are:
    autocast decides on them here as it does on one device.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    names, sizes = ("replica", "shard"), (replicas, world.size // replicas)
    mesh = init_device_mesh(runtime.device.type, sizes, mesh_dim_names=names)
    if replicas == 1:
        mesh = mesh["shard"]
    lowered = torch.bfloat16 if runtime.precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=lowered, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in (*root.model.blocks, root):
        fully_shard(module, mesh=mesh, mp_policy=policy)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
