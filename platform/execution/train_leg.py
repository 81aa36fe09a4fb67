"""One leg of a trial of several workers: a Ray Train run inside the Tune actor of the leg.

Every worker runs the same `trainers.loop.train`, which finds the process group that Ray Train has made. The first one
asks the control actor and hands its rows over there; the Tune actor, which does nothing else meanwhile, reports them,
so the driver hears of a leg of several workers as of any other. The leg ends when the loop returns: nothing is stopped
from outside, so no placement group is left behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.tune

from crossover.platform.execution.fence import fence_of
from crossover.platform.execution.leg import (
    TrialContext,
    last_row,
    leave_trial_dir,
    leg_identity,
    placement_group_prefix,
    published_record,
    the_train,
    trial_config,
    trial_dir,
    trial_workers,
)
from crossover.platform.execution.placement import worker_resources
from crossover.platform.execution.ray_private import (
    ELASTIC_SETTINGS,
    SHUTDOWN_SETTINGS,
    TRAIN_SETTINGS,
    WORKER_DIED,
    ControllerCallback,
    LegTrainer,
    WorkerGroupCallback,
    claim_of,
    is_preempted,
    name_placement_groups,
)
from crossover.platform.execution.ray_session import environment
from crossover.platform.execution.workers import worker_counts
from crossover.platform.study.model import WorkerRange
from crossover.trainers.loop import LegEnd
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.storage import PublishedRecord, is_storage_trouble

__all__ = ["TrainWorkerRun", "WorkerLost", "run_in_ray_train"]

_train: Any = ray.train  # chooses its version when it is loaded, which types cannot follow
_ROWS_SECONDS = 0.2


class WorkerLost(Exception):  # noqa: N818 - it says what happened
    """A process of the leg has died, and others too often before it."""


@dataclass
class TrainWorkerRun:
    """The place of a leg in one worker: the first one asks and tells, the others follow it."""

    directory: Path
    until_tokens: int | None
    control: Any
    trial_id: str
    is_main: bool
    fence: Callable[[], None]
    published: PublishedRecord | None = None

    def evaluated(self, evaluation: Evaluation) -> None:
        """Hands a row over; when this returns, the control actor has it."""
        if self.is_main:
            self.fence()
            ray.get(self.control.row.remote(self.trial_id, evaluation.model_dump()))

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """Asks the control actor. A machine that is to be taken away interrupts the leg, which goes on elsewhere."""
        if not self.is_main:
            return None
        self.fence()
        request: StopRequest | None = ray.get(self.control.poll.remote(progress))
        if request is None and is_preempted():
            return StopRequest("interrupted", "a machine of this trial is to be taken away")
        return request


class LegCallback(ControllerCallback, WorkerGroupCallback):
    """In the controller: names what must not stay behind, and says when the leg only waits for machines."""

    def __init__(self, context: TrialContext, leg: Mapping[str, Any]) -> None:
        self._names = placement_group_prefix(context, leg)
        self._control = (context.control, context.namespace)
        self._trial_id = leg["trial_id"]

    def after_controller_start(self, train_run_context: Any) -> None:
        """Before anything is placed."""
        os.environ.update(SHUTDOWN_SETTINGS)
        name_placement_groups(self._names)
        control = self._actor()
        control.waits.remote(self._trial_id)
        control.claims.remote(self._trial_id, claim_of(train_run_context))

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """There is room: from here on something must happen."""
        self._actor().heard.remote(self._trial_id)

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        """Until the next group of workers, or the end."""
        self._actor().waits.remote(self._trial_id)

    def _actor(self) -> Any:
        return ray.get_actor(*self._control)


def run_in_ray_train(context: TrialContext, leg: Mapping[str, Any], control: Any) -> dict[str, Any]:
    """Runs a leg to its end, in the thread of the Tune trial.

    Raises:
        WorkerLost: workers died, more often than the study allows.
        WorkerGroupError: workers raised, more often than the study allows.
    """
    trainer = _trainer(context, leg)
    with _train_settings(context), ThreadPoolExecutor(1) as executor:
        result = executor.submit(trainer.fit)
        row = _report_rows(result, leg, control)
    try:
        end: LegEnd = result.result().return_value
    except _train.WorkerGroupError as error:
        if any(isinstance(failure, WORKER_DIED) for failure in error.worker_failures.values()):
            ray.get(control.take_error.remote(leg["trial_id"]))  # what the others said of it
            raise WorkerLost("a worker died (killed, or out of memory)") from error
        raise
    return last_row(leg, row, end)


def _report_rows(result: Future[Any], leg: Mapping[str, Any], control: Any) -> dict[str, Any]:
    """Until the run is over; what it handed over last is reported too."""
    row: dict[str, Any] = {}
    while True:
        is_over = wait([result], _ROWS_SECONDS).done
        for row in ray.get(control.take_rows.remote(leg["trial_id"])):
            ray.tune.report({**leg_identity(leg), **row})
        if is_over:
            return row


def _trainer(context: TrialContext, leg: Mapping[str, Any]) -> Any:
    resources, workers = context.study.resources, trial_workers(context, leg)

    def work() -> LegEnd:
        return _work(context, leg)

    return LegTrainer(
        work,
        sizes=worker_counts(workers, trial_config(context, leg)),
        scaling_config=_train.ScalingConfig(
            num_workers=_num_workers(workers),
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=worker_resources(resources),
            elastic_resize_monitor_interval_s=workers.resize_seconds,
        ),
        run_config=_train.RunConfig(
            # Ray Train goes on with a run of the same name: this one is new in every leg, and says whose it is.
            name=f"{leg['trial_id']}-{leg['leg']}",
            storage_path=str(context.study_dir / "ray" / f"{context.attempt:04d}-train"),
            failure_config=_train.FailureConfig(max_failures=resources.max_failures),
            callbacks=[LegCallback(context, leg)],
        ),
    )


def _num_workers(workers: WorkerRange) -> int | tuple[int, int]:
    return workers.max if workers.min == workers.max else (workers.min, workers.max)


def _train_settings(context: TrialContext) -> Any:
    """Ray Train reads them where `fit` is called; what the environment of the cluster already says stands."""
    settings = dict(TRAIN_SETTINGS)
    given = context.study.resources.given_workers
    if given is not None and given.min < given.max:
        settings |= ELASTIC_SETTINGS
    if sum(node["Alive"] for node in ray.nodes()) == 1:  # type: ignore[no-untyped-call]
        settings["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # nothing is left to go on with
    return environment({name: value for name, value in settings.items() if name not in os.environ})


def _work(context: TrialContext, leg: Mapping[str, Any]) -> LegEnd:
    """On each worker."""
    control = ray.get_actor(context.control, context.namespace)
    is_main = _train.get_context().get_world_rank() == 0
    run = TrainWorkerRun(
        directory=trial_dir(context, leg),
        until_tokens=leg["until_tokens"],
        control=control,
        trial_id=leg["trial_id"],
        is_main=is_main,
        fence=fence_of(context.study_dir, context.attempt),
        published=published_record(context, leg),
    )
    try:
        end = the_train(context)(trial_config(context, leg), run)
    except Exception as error:
        if is_storage_trouble(error):
            ray.get(control.cannot_store.remote(str(error)))
        ray.get(control.worker_failed.remote(leg["trial_id"], f"{type(error).__name__}: {error}"))
        raise  # its machine's copy stays until the next leg ends there: others may still write in it
    leave_trial_dir(context, leg)  # workers leave the record together
    return end
