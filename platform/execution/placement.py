"""What a leg takes of a cluster, and how many legs fit at once.

A leg in Ray Train takes what its workers take. Its Tune actor only waits for them, so it takes one byte of memory (Tune
refuses a trial that takes nothing): the workers of one trial fit on exactly the processors that they ask for, and no
waiting actor can hold what another trial's last worker needs. It stays on the driver's machine, so that the loss of
another one costs workers, never the leg.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ray
from ray.tune import PlacementGroupFactory

from crossover.platform.study import Study
from crossover.platform.study_model import ResourcesConfig, WorkerRange
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import CrossoverError

__all__ = ["leg_resources", "num_slots", "worker_counts", "worker_resources"]

_NODE_ID_LABEL = "ray.io/node-id"


def worker_resources(resources: ResourcesConfig) -> dict[str, float]:
    """What one worker takes."""
    bundle = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker:
        bundle["GPU"] = float(resources.gpus_per_worker)
    return bundle


def worker_counts(workers: WorkerRange, config: TrialConfig) -> list[int]:
    """Numbers of workers in a range that share a batch evenly and hold whole replicas, ascending."""
    return [
        count
        for count in range(workers.min, workers.max + 1)
        if config.schedule.batch_size % count == 0 and count % config.execution.replicas == 0
    ]


def leg_resources(study: Study) -> PlacementGroupFactory:
    """What the Tune actor of one leg takes."""
    if not study.resources.uses_ray_train:
        return PlacementGroupFactory([worker_resources(study.resources)])
    here = {_NODE_ID_LABEL: ray.get_runtime_context().get_node_id()}
    return PlacementGroupFactory([{"memory": 1.0}], bundle_label_selector=[here])


def num_slots(study: Study) -> int:
    """Legs that fit at once, each at its largest; one, where only a smaller one fits.

    Raises:
        CrossoverError: not even one fits at its smallest.
    """
    wanted = study.resources
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    room = sum(_workers_on(node, worker_resources(wanted)) for node in nodes)
    if room >= wanted.workers.min:
        return max(1, room // wanted.workers.max)
    if room == 0:
        raise CrossoverError(
            f"no machine has what one worker takes (resources.cpus_per_worker = {wanted.cpus_per_worker}, "
            f"resources.gpus_per_worker = {wanted.gpus_per_worker:g}); the largest has {_largest(nodes, 'CPU')} CPUs "
            f"and {_largest(nodes, 'GPU')} GPUs: lower these settings, or add machines"
        )
    raise CrossoverError(
        f"resources.workers = {wanted.workers.min}, but all machines together have room for {room} workers of "
        f"resources.cpus_per_worker = {wanted.cpus_per_worker} and resources.gpus_per_worker = "
        f"{wanted.gpus_per_worker:g}: lower these settings, or add machines"
    )


def _workers_on(node: Mapping[str, float], worker: Mapping[str, float]) -> int:
    return math.floor(min(node.get(name, 0.0) / amount for name, amount in worker.items()) + 1e-6)


def _largest(nodes: list[dict[str, Any]], resource: str) -> str:
    return f"{max((node.get(resource, 0.0) for node in nodes), default=0.0):g}"
