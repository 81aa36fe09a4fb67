"""What a leg is told and what it answers, wherever it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossover.platform.execution.workers import Room, workers_of
from crossover.platform.storage.lease import WriterCheck
from crossover.platform.storage.remote_study import copy_folder
from crossover.platform.study import Study
from crossover.platform.study.model import WorkerRange
from crossover.search_spaces import Stratum
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import CrossoverError
from crossover.trainers.run import Run
from crossover.trainers.storage import ObjectStore, PublishedRecord

if TYPE_CHECKING:
    from crossover.trainers.loop import LegEnd

__all__ = [
    "RemoteLegs",
    "Train",
    "TrialContext",
    "last_row",
    "leave_trial_dir",
    "leg_identity",
    "placement_group_prefix",
    "published_record",
    "the_train",
    "trial_config",
    "trial_dir",
    "trial_workers",
    "uses_ray_train",
]

Train = Callable[[TrialConfig, Run], "LegEnd"]


@dataclass(frozen=True)
class RemoteLegs:
    """Where legs of a study in an object store have their records.

    Args:
        uri: of the study's folder.
        term: of the driver: legs of an older one may not write.
    """

    uri: str
    term: int

    def working_copies(self, trial_id: str) -> Path:
        """This machine's folder for the copies of a record."""
        return copy_folder(self.uri, "legs") / trial_id

    def record(self, trial_id: str) -> PublishedRecord:
        """The record in the store."""
        study = ObjectStore(self.uri)
        return PublishedRecord(study.folder(f"trials/{trial_id}"), WriterCheck(study, self.term))


@dataclass(frozen=True)
class TrialContext:
    """What every leg of a study shares.

    Args:
        study: the study.
        study_dir: its folder.
        corpus: where the workers find the corpus: its name, or its folder as an absolute path.
        control: name of the control actor, different in each attempt.
        namespace: its Ray namespace.
        attempt: number of the driver's attempt, from 1.
        room: what there is for the workers of one trial.
        train: the training loop; None: `trainers.loop.train`.
        remote: where the study lies, if that is an object store, of which `study_dir` is the driver's copy.
    """

    study: Study
    study_dir: Path
    corpus: str
    control: str
    namespace: str
    attempt: int
    room: Room
    train: Train | None = None
    remote: RemoteLegs | None = None


def trial_config(context: TrialContext, leg: Mapping[str, Any]) -> TrialConfig:
    """The configuration of a leg's trial, as a worker of this study runs it.

    Args:
        context: of the study.
        leg: what Tune was given, from `tune_searcher.config_of`.
    """
    stratum = Stratum(leg["scientific"], leg["stratum"])
    trial = context.study.trial_config(stratum, leg["settings"], leg["repeat"])
    threads = trial.execution.threads or context.study.resources.cpus_per_worker
    return trial.model_copy(
        update={
            "data": trial.data.model_copy(update={"corpus": context.corpus}),
            "execution": trial.execution.model_copy(update={"threads": threads}),
        }
    )


def trial_workers(context: TrialContext, leg: Mapping[str, Any]) -> WorkerRange:
    """How many workers a leg's trial has.

    Raises:
        CrossoverError: it fits no number of GPUs that there are.
    """
    if (given := context.study.resources.given_workers) is not None:
        return given
    return workers_of(context.study.resources, trial_config(context, leg), context.room)


def uses_ray_train(context: TrialContext, leg: Mapping[str, Any]) -> bool:
    """Whether a leg runs in Ray Train. One whose trial fits nowhere does not, so that it fails alone."""
    if not context.study.resources.uses_ray_train or context.study.resources.launcher == "ray_train":
        return context.study.resources.uses_ray_train
    try:
        return trial_workers(context, leg).max > 1
    except CrossoverError:
        return False


def trial_dir(context: TrialContext, leg: Mapping[str, Any]) -> Path:
    """The folder of a leg's trial, or this machine's working copy of it."""
    if context.remote is not None:  # in a name of its own, so that nothing of an earlier leg is taken for this one's
        return context.remote.working_copies(leg["trial_id"]) / f"{context.remote.term}-{leg['leg']}"
    return context.study_dir / "trials" / str(leg["trial_id"])


def published_record(context: TrialContext, leg: Mapping[str, Any]) -> PublishedRecord | None:
    """The record in the object store; None: `trial_dir` has it."""
    return None if context.remote is None else context.remote.record(leg["trial_id"])


def leave_trial_dir(context: TrialContext, leg: Mapping[str, Any]) -> None:
    """Nothing stays on a machine of a record that lies in a store: the next leg may run anywhere."""
    if context.remote is not None:
        shutil.rmtree(context.remote.working_copies(leg["trial_id"]), ignore_errors=True)


def leg_identity(leg: Mapping[str, Any]) -> dict[str, Any]:
    """What each row tells of its trial, so that Tune's own tables can be read alone."""
    return {"trial": leg["trial_id"], **{name: leg[name] for name in ("stratum", "number", "repeat")}}


def placement_group_prefix(context: TrialContext, leg: Mapping[str, Any]) -> str:
    """How the names of a leg's placement groups begin, in Ray Train."""
    return f"{context.control}/{leg['trial_id']}/{leg['leg']}/"


def last_row(leg: Mapping[str, Any], row: Mapping[str, Any], end: LegEnd) -> dict[str, Any]:
    """What a leg returns: its newest evaluation, the end of its trial if it came to it, and how it ended itself."""
    details = {} if end.end is None else end.end.model_dump()
    return {**leg_identity(leg), **row, **details, "leg_status": end.status}


def the_train(context: TrialContext) -> Train:
    """The training loop."""
    if context.train is not None:
        return context.train
    from crossover.trainers.loop import train

    return train
