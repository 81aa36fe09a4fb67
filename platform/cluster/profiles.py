"""The four shapes of cluster that a study is rendered for.

What a trial takes is the study's own (`resources`); a profile says what machines there are, how many pods at most,
who submits, and how long things may last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["PROFILES", "SPOT_LABEL", "Profile"]

_DAY_SECONDS = 86_400
SPOT_LABEL = "ray.io/market-type"


@dataclass(frozen=True)
class Profile:
    """One shape of cluster.

    Args:
        name: as it is given on the command line.
        summary: what it is for, in words.
        submission: K8sJobMode: a pod submits and follows the log, simple to watch. HTTPMode: the operator submits, and
            no dropped log ends a long sweep.
        max_pods: of workers, unless more trials at once are asked for.
        pod_cpus: processors of a pod without GPUs that its workers share.
        pod_gpus: GPUs of one machine; 0: trials have none.
        memory_gib: of a pod, for each of its workers.
        head_cpus: processors of the head, which runs the driver and no trial.
        head_gib: memory of the head.
        one_node: all workers share one machine.
        spot: machines may be taken away: a pod holds one trial, so its loss costs one, and the autoscaler replaces it.
        active_seconds: how long all may take.
        backoff: how many new clusters may go on with the study after a failure.
        node_selector: labels of the machines that workers go to.
    """

    name: str
    summary: str
    submission: Literal["K8sJobMode", "HTTPMode"]
    max_pods: int
    pod_cpus: int = 4
    pod_gpus: int = 0
    memory_gib: int = 4
    head_cpus: int = 2
    head_gib: int = 8
    one_node: bool = False
    spot: bool = False
    active_seconds: int = 7 * _DAY_SECONDS
    backoff: int = 2
    node_selector: Mapping[str, str] = field(default_factory=dict)


_GPU_NODES = {"nvidia.com/gpu.present": "true"}  # set by NVIDIA's GPU feature discovery

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "dev-cpu",
            "a small study on processors, to try things out",
            "K8sJobMode",
            max_pods=2,
            active_seconds=_DAY_SECONDS,
        ),
        Profile(
            "single-node-gpu",
            "one machine with up to eight GPUs",
            "K8sJobMode",
            max_pods=1,
            pod_gpus=8,
            memory_gib=32,
            one_node=True,
            node_selector=_GPU_NODES,
        ),
        Profile(
            "multi-node-gpu",
            "several machines that stay: all pods together, or none",
            "HTTPMode",
            max_pods=8,
            pod_gpus=8,
            memory_gib=32,
            head_cpus=4,
            head_gib=16,
            active_seconds=14 * _DAY_SECONDS,
            node_selector=_GPU_NODES,
        ),
        Profile(
            "spot-sweep",
            "many machines that may be taken away at any time",
            "HTTPMode",
            max_pods=32,
            pod_gpus=8,
            memory_gib=32,
            head_cpus=4,
            head_gib=16,
            spot=True,
            active_seconds=14 * _DAY_SECONDS,
            backoff=5,
            node_selector={**_GPU_NODES, SPOT_LABEL: "spot"},
        ),
    )
}
