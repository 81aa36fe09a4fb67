"""One leg of one trial, in a reused Tune actor: `trainers.loop.train`, told what it must know and nothing more.

Where a trial has several workers, the actor runs a Ray Train run instead, in `train_leg.py`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.tune

from crossover.platform.execution.fence import fence_of, outlast_orphans
from crossover.platform.execution.leg import (
    TrialContext,
    last_row,
    leave_trial_dir,
    leg_identity,
    published_record,
    the_train,
    trial_config,
    trial_dir,
    trial_workers,
    uses_ray_train,
)
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.storage import PublishedRecord, is_storage_trouble

__all__ = ["LegFailed", "TuneRun", "make_trainable"]


class LegFailed(Exception):  # noqa: N818 - it says what happened
    """A leg has failed, as the text says: an exception that cannot be sent to the driver would end the whole study."""


@dataclass
class TuneRun:
    """The place of a leg in a Tune trial: rows go to Tune, questions to the control actor."""

    directory: Path
    until_tokens: int | None
    identity: Mapping[str, Any]
    control: Any
    fence: Callable[[], None]
    published: PublishedRecord | None = None
    last_row: dict[str, Any] = field(default_factory=dict)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Reports a row with what tells its trial."""
        self.fence()
        self.last_row = evaluation.model_dump()
        ray.tune.report({**self.identity, **self.last_row})

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """Asks the control actor."""
        self.fence()
        request: StopRequest | None = ray.get(self.control.poll.remote(progress))
        return request


def make_trainable(context: TrialContext) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that Tune runs for each leg; what it returns is the leg's last row, with how it ended."""

    def trial(config: dict[str, Any]) -> dict[str, Any]:
        control = ray.get_actor(context.control, context.namespace)
        control.leg_begins.remote(config["trial_id"], config["stratum"])
        try:
            control.waits.remote(config["trial_id"])
            outlast_orphans(trial_dir(context, config), context.attempt)
            control.heard.remote(config["trial_id"])
            report = _leg(context, config)(context, config, control)
        except Exception as error:
            if is_storage_trouble(error):
                ray.get(control.cannot_store.remote(str(error)))
            if ray.get(control.storage_trouble.remote()) is not None:  # no fault of the trial, which goes on after it
                ray.get(control.leg_over.remote(config["trial_id"]))
                return {**leg_identity(config), "leg_status": "interrupted"}
            ray.get(control.leg_over.remote(config["trial_id"], f"{type(error).__name__}: {error}"))
            trace = traceback.format_exc()
        else:
            ray.get(control.leg_over.remote(config["trial_id"]))
            return report
        raise LegFailed(trace)

    return trial


def _leg(
    context: TrialContext, leg: Mapping[str, Any]
) -> Callable[[TrialContext, Mapping[str, Any], Any], dict[str, Any]]:
    if not uses_ray_train(context, leg):
        return _run_here
    from crossover.platform.execution.train_leg import run_in_ray_train  # loads Ray Train, 3 s

    return run_in_ray_train


def _run_here(context: TrialContext, leg: Mapping[str, Any], control: Any) -> dict[str, Any]:
    trial_workers(context, leg)  # refuses a trial that fits nowhere
    fence, published = fence_of(context.study_dir, context.attempt), published_record(context, leg)
    run = TuneRun(trial_dir(context, leg), leg["until_tokens"], leg_identity(leg), control, fence, published)
    try:
        end = the_train(context)(trial_config(context, leg), run)
    finally:
        leave_trial_dir(context, leg)
    return last_row(leg, run.last_row, end)
