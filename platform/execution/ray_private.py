"""Every private name of Ray that is used here; a test fails when Ray moves one.

What they are for: a placement group of Ray Train has no name and stays behind when its run is killed, so it is given
one, and its claim on the cluster is taken back; of the sizes of an elastic run only those are taken that share a batch;
runs without Ray Data need not start an actor for it; and a dataset that is not read to its end is ended.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.scaling_policy.elastic import ElasticScalingPolicy
from ray.train.v2._internal.execution.worker_group import worker_group as worker_group_module
from ray.util.placement_group import placement_group

__all__ = [
    "ELASTIC_SETTINGS",
    "SHUTDOWN_SETTINGS",
    "TRAIN_SETTINGS",
    "WORKER_DIED",
    "ControllerCallback",
    "LegTrainer",
    "WorkerGroupCallback",
    "claim_of",
    "end_dataset",
    "is_preempted",
    "name_placement_groups",
    "take_back_claim",
]


TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # paces the end of a run: 7 s with Ray's own 2 s, 0.5 s with this
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Variables that Ray Train reads where `fit` is called, and hands on from there."""

ELASTIC_SETTINGS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
"""The same, for elastic runs: how long a size is tried for which there is no room any more; Ray's own is 60 s."""

SHUTDOWN_SETTINGS = {"TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5"}
"""The same for its controller: how long workers are waited for whose peer has died; Ray's own is 30 s."""

WORKER_DIED = (RayActorError, WorkerHealthCheckFailedError)
"""What Ray Train says of a worker whose process is gone."""

_COORDINATOR = "AutoscalingCoordinator"
_TorchTrainer: Any = TorchTrainer
_ElasticScalingPolicy: Any = ElasticScalingPolicy
_worker_group: Any = worker_group_module


class LegTrainer(_TorchTrainer):  # type: ignore[misc]
    """Starts no actor for data sets, of which there are none, and has no other numbers of workers than these.

    Args:
        sizes: numbers of workers that a run may have, ascending.
        arguments: of `TorchTrainer`.
    """

    def __init__(self, *arguments: Any, sizes: Sequence[int], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sizes = tuple(sizes)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self.scaling_config.elasticity_enabled:
            arguments["scaling_policy"] = _SizesPolicy(self.scaling_config, self._sizes)
        return super()._initialize_and_run_controller(**arguments)


class _SizesPolicy(_ElasticScalingPolicy):  # type: ignore[misc]
    def __init__(self, scaling_config: Any, sizes: tuple[int, ...]) -> None:
        super().__init__(scaling_config)
        self._sizes = sizes

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        room: int = super()._count_possible_workers(reserved_resources)
        return max((size for size in self._sizes if size <= room), default=0)


def name_placement_groups(prefix: str) -> None:
    """In the controller of a Ray Train run: each placement group that it makes from here on has a name.

    A name is there from the first moment, and whoever knows it can remove what it names; what Ray itself registers for
    removal, it registers when all workers have started.
    """
    numbers = itertools.count()

    def named(*args: Any, **kwargs: Any) -> Any:
        return placement_group(*args, **{**kwargs, "name": f"{prefix}{next(numbers)}"})

    _worker_group.placement_group = named


def claim_of(train_run_context: Any) -> str:
    """The name under which a run in Ray Train claims room for its workers."""
    return f"train-{train_run_context.run_id}"


def take_back_claim(name: str) -> None:
    """What a killed run has claimed is free for others at once; without this, after three minutes."""
    with contextlib.suppress(ValueError):  # nobody ever claimed anything
        ray.get_actor(_COORDINATOR, _COORDINATOR).cancel_request.remote(requester_id=name)


def is_preempted() -> bool:
    """In a worker of Ray Train: whether a machine of this run is to be taken away soon, as far as it knows."""
    return get_train_context().preemption_context.preemption_info is not None


def end_dataset(dataset: Any) -> None:
    """Ends what computes a dataset of Ray Data that may not have been read to its end.

    Its thread would go on asking a Ray that has been shut down, which waits, or starts another one.
    """
    dataset._synchronize_progress_bar()  # named for what it was first needed for
