"""One leg of one trial, inside a reused Tune actor: `trainers.loop.train`, told what it must know and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.tune

from crossover.platform.study import Study
from crossover.search_spaces import Stratum
from crossover.trainers.config import TrialConfig
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, Run, StopRequest

if TYPE_CHECKING:
    from crossover.trainers.loop import LegEnd

__all__ = ["Train", "TrialContext", "TuneRun", "make_trainable"]

Train = Callable[[TrialConfig, Run], "LegEnd"]


@dataclass(frozen=True)
class TrialContext:
    """What every leg of a study shares.

    Args:
        study: the study.
        study_dir: its folder.
        corpus: where the workers find the corpus: its name, or its folder as an absolute path.
        control: name of the control actor.
        namespace: its Ray namespace.
        train: the training loop; None: `trainers.loop.train`.
    """

    study: Study
    study_dir: Path
    corpus: str
    control: str
    namespace: str
    train: Train | None = None


@dataclass
class TuneRun:
    """The place of a leg in a Tune trial: rows go to Tune, questions to the control actor."""

    directory: Path
    until_tokens: int | None
    identity: Mapping[str, Any]
    control: Any
    last_row: dict[str, Any] = field(default_factory=dict)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Reports a row with what tells its trial, so that Tune's own tables can be read alone."""
        self.last_row = evaluation.model_dump()
        ray.tune.report({**self.identity, **self.last_row})

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """Asks the control actor."""
        request: StopRequest | None = ray.get(self.control.poll.remote(progress))
        return request


def make_trainable(context: TrialContext) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that Tune runs for each leg; what it returns is the leg's last row, with how it ended."""

    def trial(config: dict[str, Any]) -> dict[str, Any]:
        control = ray.get_actor(context.control, context.namespace)
        try:
            report = _run_leg(context, config, control)
        except BaseException as error:
            ray.get(control.leg_over.remote(config["trial_id"], f"{type(error).__name__}: {error}"))
            raise
        control.leg_over.remote(config["trial_id"])
        return report

    return trial


def _run_leg(context: TrialContext, config: Mapping[str, Any], control: Any) -> dict[str, Any]:
    train = context.train or _real_train()
    run = TuneRun(
        directory=context.study_dir / "trials" / config["trial_id"],
        until_tokens=config["until_tokens"],
        identity={"trial": config["trial_id"], **{name: config[name] for name in ("stratum", "number", "repeat")}},
        control=control,
    )
    end = train(_trial_config(context, config), run)
    details = {} if end.end is None else end.end.model_dump()
    return {**run.identity, **run.last_row, **details, "leg_status": end.status}


def _trial_config(context: TrialContext, config: Mapping[str, Any]) -> TrialConfig:
    stratum = Stratum(config["scientific"], config["stratum"])
    trial = context.study.trial_config(stratum, config["settings"], config["repeat"])
    threads = trial.execution.threads or context.study.resources.cpus_per_worker
    return trial.model_copy(
        update={
            "data": trial.data.model_copy(update={"corpus": context.corpus}),
            "execution": trial.execution.model_copy(update={"threads": threads}),
        }
    )


def _real_train() -> Train:
    from crossover.trainers.loop import train

    return train
