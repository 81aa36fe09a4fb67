"""What GPUs there are: asked of torch on this machine, and on every machine of a cluster that has some."""

from __future__ import annotations

import os
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crossover.trainers.errors import CrossoverError

__all__ = ["gpu_bytes_here", "gpu_bytes_of_cluster"]

_PATIENCE_SECONDS = 120.0


def gpu_bytes_here() -> int | None:
    """Memory of this machine's smallest GPU, in bytes; None: it has none."""
    memories = [torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count())]
    return min(memories, default=None)


def gpu_bytes_of_cluster() -> int | None:
    """Memory of the smallest GPU of the cluster that this process is connected to, in bytes; None: it has none.

    Raises:
        CrossoverError: a machine with GPUs does not say.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0)]  # type: ignore[no-untyped-call]
    ask: Any = ray.remote(num_cpus=0, max_calls=1)(_seen_without_a_lease)  # a process of its own, which ends
    answers = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    try:
        memories = ray.get(answers, timeout=_PATIENCE_SECONDS)
    except ray.exceptions.RayError as error:
        raise CrossoverError(f"a machine with GPUs does not say how much memory they have: {error}") from error
    if None in memories:
        machine = nodes[memories.index(None)]["NodeManagerHostname"]
        raise CrossoverError(
            f"Ray counts GPUs on {machine}, where torch sees none: install a CUDA build of torch there, or start that "
            "machine's Ray with --num-gpus 0"
        )
    return min(memories, default=None)


def _seen_without_a_lease() -> int | None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides what a task has not asked for
    return gpu_bytes_here()
