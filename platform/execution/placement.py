"""What a leg takes of a cluster, and how many legs fit at once.

A leg in Ray Train takes what its workers take. Its Tune actor only waits for them, so it takes one byte of memory (Tune
refuses a trial that takes nothing): the workers of one trial fit on exactly the processors that they ask for, and no
waiting actor can hold what another trial's last worker needs. It stays on the driver's machine, so that the loss of
another one costs workers, never the leg.

Where trials of one study have different numbers of workers, as many legs run at once as would fit if each were the
largest: some GPUs may be idle, and no large trial ever waits behind small ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.tune import PlacementGroupFactory

from crossover.platform.execution.gpus import gpu_bytes_of_cluster
from crossover.platform.execution.leg import TrialContext, uses_ray_train
from crossover.platform.execution.workers import Room
from crossover.platform.study.model import ResourcesConfig, WorkerRange
from crossover.trainers.errors import CrossoverError

__all__ = ["leg_resources", "num_slots", "room_of_cluster", "worker_resources"]

_NODE_ID_LABEL = "ray.io/node-id"


def worker_resources(resources: ResourcesConfig) -> dict[str, float]:
    """What one worker takes."""
    bundle = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker:
        bundle["GPU"] = float(resources.gpus_per_worker)
    return bundle


def room_of_cluster(resources: ResourcesConfig) -> Room:
    """What the cluster that this process is connected to has for workers; GPUs are asked only if workers have some.

    Raises:
        CrossoverError: no machine has what one worker takes, or one does not say what its GPUs are.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    num_workers = sum(_workers_on(node, worker_resources(resources)) for node in nodes)
    if num_workers == 0:
        raise CrossoverError(
            f"no machine has what one worker takes (resources.cpus_per_worker = {resources.cpus_per_worker}, "
            f"resources.gpus_per_worker = {resources.gpus_per_worker:g}); the largest has {_largest(nodes, 'CPU')} "
            f"CPUs and {_largest(nodes, 'GPU')} GPUs: lower these settings, or add machines"
        )
    return Room(num_workers, gpu_bytes_of_cluster() if resources.gpus_per_worker else None)


def leg_resources(context: TrialContext) -> Callable[[Mapping[str, Any]], PlacementGroupFactory]:
    """What the Tune actor of a leg takes, by what Tune is given of the leg; asked in the driver."""
    here = {_NODE_ID_LABEL: ray.get_runtime_context().get_node_id()}

    def of_leg(leg: Mapping[str, Any]) -> PlacementGroupFactory:
        if uses_ray_train(context, leg):
            return PlacementGroupFactory([{"memory": 1.0}], bundle_label_selector=[here])
        return PlacementGroupFactory([worker_resources(context.study.resources)])

    return of_leg


def num_slots(resources: ResourcesConfig, workers: WorkerRange, room: Room) -> int:
    """Legs that fit at once, each as large as the study's largest, so that none waits; one, if it fits with fewer only.

    Args:
        resources: of the study.
        workers: fewest and most of all its trials.
        room: of the cluster.

    Raises:
        CrossoverError: not even one fits at its smallest.
    """
    if room.num_workers >= workers.min:
        return max(1, room.num_workers // workers.max)
    raise CrossoverError(
        f"resources.workers = {workers.min}, but all machines together have room for {room.num_workers} workers of "
        f"resources.cpus_per_worker = {resources.cpus_per_worker} and resources.gpus_per_worker = "
        f"{resources.gpus_per_worker:g}: lower these settings, or add machines"
    )


def _workers_on(node: Mapping[str, float], worker: Mapping[str, float]) -> int:
    return math.floor(min(node.get(name, 0.0) / amount for name, amount in worker.items()) + 1e-6)


def _largest(nodes: list[dict[str, Any]], resource: str) -> str:
    return f"{max((node.get(resource, 0.0) for node in nodes), default=0.0):g}"
