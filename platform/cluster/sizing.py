"""How many pods a study is given, and how large: from its `resources` and its number of trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crossover.platform.cluster.profiles import Profile
from crossover.platform.study import Study
from crossover.platform.study.model import ResourcesConfig, WorkerRange
from crossover.trainers.errors import CrossoverError

__all__ = ["Workers", "size_workers"]


@dataclass(frozen=True)
class Workers:
    """The pods of the workers.

    Args:
        pods: how many.
        workers: of trials, in one pod.
        cpus: that Ray counts in one pod.
        gpus: of one pod.
        trials: that run at once.
        fewest_pods: with which one trial still runs.
    """

    pods: int
    workers: int
    cpus: int
    gpus: int
    trials: int
    fewest_pods: int


def size_workers(study: Study, profile: Profile, at_once: int | None, gpu_bytes: float) -> Workers:
    """Pods for as many trials at once as the study has, within the profile.

    Args:
        study: as it is rendered; its GPUs agree with the profile.
        profile: of the cluster.
        at_once: trials at once; None: as many as the study can have, up to the pods of the profile.
        gpu_bytes: memory of one GPU, for `resources.workers: auto`.

    Raises:
        CrossoverError: not one trial fits, or more is asked for than one machine has.
    """
    resources = study.resources
    in_a_pod = _most_workers(resources, profile)
    workers = _workers_of_a_trial(study, profile, in_a_pod, gpu_bytes)
    wanted = (at_once or _num_trials(study)) * workers.max
    per_pod = min(in_a_pod, max(workers.max, _sharing_a_gpu(resources)) if profile.spot else wanted)
    pods = math.ceil(wanted / per_pod)
    if profile.one_node and at_once and pods > 1:
        raise CrossoverError(
            f"{at_once} trials at once take {pods} machines of {in_a_pod} workers, and profile {profile.name} has one: "
            "lower --at-once, or give another profile"
        )
    if profile.one_node or at_once is None:
        pods = min(pods, 1 if profile.one_node else max(profile.max_pods, math.ceil(workers.max / per_pod)))
    if pods * per_pod < workers.min:
        raise CrossoverError(
            f"a trial of resources.workers = {workers.min} does not fit profile {profile.name}, which has room for "
            f"{pods * per_pod}: set fewer workers, or give profile multi-node-gpu"
        )
    return Workers(
        pods=pods,
        workers=per_pod,
        cpus=per_pod * resources.cpus_per_worker,
        gpus=math.ceil(per_pod * resources.gpus_per_worker - 1e-9),
        trials=max(1, pods * per_pod // workers.max),
        fewest_pods=math.ceil(workers.min / per_pod),
    )


def _most_workers(resources: ResourcesConfig, profile: Profile) -> int:
    if resources.gpus_per_worker:
        return math.floor(profile.pod_gpus / resources.gpus_per_worker + 1e-9)
    return max(1, profile.pod_cpus // resources.cpus_per_worker)


def _sharing_a_gpu(resources: ResourcesConfig) -> int:
    return math.floor(1 / resources.gpus_per_worker + 1e-9) if resources.gpus_per_worker else 1


def _workers_of_a_trial(study: Study, profile: Profile, in_a_pod: int, gpu_bytes: float) -> WorkerRange:
    if (given := study.resources.given_workers) is not None:
        return given
    from crossover.platform.execution.study_workers import workers_of_study  # reads torch and Ray: seconds
    from crossover.platform.execution.workers import Room

    return workers_of_study(study, Room(in_a_pod * profile.max_pods, int(gpu_bytes)))


def _num_trials(study: Study) -> int:
    """Trials that may run at once: every configuration with its seeds, or the last seeds of each stratum."""
    search, strata = study.search, study.strata()
    first = sum(study.num_configurations(stratum) for stratum in strata) * search.repeats
    return max(1, first, len(strata) * (search.num_final_repeats - search.repeats))
