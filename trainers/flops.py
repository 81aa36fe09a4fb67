"""FLOPs counted from the shape, exactly what the algorithm needs, and 6ND beside it.

A multiplication and its addition are two FLOPs. Counted: matrix products (of a mixture its routers and the experts that
a token uses) and attention scores (a causal mask needs the lower triangle only, (L + 1) / 2 keys a query), the output
head at positions whose logits are computed, and twice the forward pass for the backward pass. Not counted: norms,
rotations, activations and softmax, and what a kernel computes without need (attention scores again in the backward
pass, upper triangles): as arXiv 2204.02311, appendix B, does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.model.shapes import ModelShape
    from crossover.trainers.objectives import Objective

__all__ = ["device_peak_flops", "evaluation_flops", "mfu", "training_flops_6nd", "training_flops_per_token"]

_BACKWARD = 2  # gradients of inputs and of weights: one product of the forward pass each

# Dense peak FLOP/s by the makers' data sheets, without sparsity: (bfloat16, float32 without tensor cores).
_PEAKS: dict[str, tuple[float | None, float]] = {
    "B200": (2.25e15, 8.0e13),
    "H200": (9.89e14, 6.7e13),
    "H100 PCIe": (7.56e14, 5.1e13),
    "H100 NVL": (8.35e14, 6.0e13),
    "H100": (9.89e14, 6.7e13),
    "A100": (3.12e14, 1.95e13),
    "L40S": (3.62e14, 9.16e13),
    "L4": (1.21e14, 3.03e13),
    "A10G": (7.0e13, 3.5e13),
    "V100": (None, 1.57e13),
}


def training_flops_per_token(shape: ModelShape, objective: Objective, sequence_length: int) -> float:
    """Expected FLOPs of forward and backward pass for each trained token.

    Args:
        shape: The model.
        objective: Says how many passes, inputs, keys and logits a token takes.
        sequence_length: Tokens L of a full sequence.
    """
    forward = _forward_flops(shape, objective, sequence_length, objective.training_head_fraction)
    return (1 + _BACKWARD) * objective.training_passes * forward


def training_flops_6nd(shape: ModelShape, num_tokens: int) -> float:
    """6 N D: N active parameters in matrix products, D tokens seen, repeats counted."""
    return 6.0 * shape.num_params_active * num_tokens


def evaluation_flops(shape: ModelShape, objective: Objective, num_tokens_W: NDArray[np.int64], num_masks: int) -> float:
    """Expected FLOPs of `objective.window_nats` on windows of so many tokens; padding is not counted.

    Args:
        shape: The model.
        objective: Says how many passes, inputs, keys and logits a window takes.
        num_tokens_W: Tokens of each window.
        num_masks: Monte-Carlo masks a window, for bounds.
    """
    lengths, counts = np.unique(num_tokens_W, return_counts=True)
    once = sum(
        count * length * _forward_flops(shape, objective, length, objective.evaluation_head_fraction(length))
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True)
    )
    return float(objective.evaluation_passes(num_masks) * once)


def device_peak_flops(device_name: str, precision: str) -> float | None:
    """Dense peak FLOP/s of a device; None where it is not known, as for every CPU.

    Args:
        device_name: As `torch.cuda.get_device_name` gives it.
        precision: bfloat16 or float32.
    """
    for name, (bfloat16, float32) in _PEAKS.items():
        if _has_words(device_name, name):
            return bfloat16 if precision == "bfloat16" else float32
    return None


def mfu(flops_per_token: float, tokens_per_second: float, peak_flops: float | None) -> float | None:
    """Share of the peak that training FLOPs reach; None where the peak is not known."""
    return None if peak_flops is None else flops_per_token * tokens_per_second / peak_flops


def _forward_flops(shape: ModelShape, objective: Objective, length: int, head_fraction: float) -> float:
    """FLOPs a token of one forward pass over a sequence of that length."""
    matrices = 2 * (shape.num_params_blocks_active + _chosen_beyond_average(shape, length))
    attention = 4 * shape.num_layers * shape.width * objective.keys_per_input(length)  # scores, and sums of values
    return objective.inputs_per_token * (matrices + attention) + head_fraction * 2 * shape.num_params_head


def _chosen_beyond_average(shape: ModelShape, length: int) -> float:
    """Parameters a token by which experts that choose whole tokens exceed the k of the shape, or fall short of it."""
    mixture = shape.mixture
    if mixture is None or not mixture.by_expert:
        return 0.0
    chosen = mixture.num_experts * mixture.capacity(length) / length - mixture.experts_per_token
    return shape.num_mixtures * 3 * shape.width * mixture.expert_width * chosen


def _has_words(device_name: str, words: str) -> bool:
    """Whether each word of a product name stands in the device's: NVIDIA H100 80GB HBM3, NVIDIA A100-SXM4-80GB."""
    return set(words.split()) <= set(device_name.replace("-", " ").split())
