"""A study, as the planner sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from crossover.platform.execution.decisions import Decision
from crossover.platform.search.budget import Budget, attempt_seconds, leg_seconds
from crossover.platform.search.plan import Plan
from crossover.platform.search.schedulers import Horizon, Scheduler, SchedulerSettings, get_scheduler
from crossover.platform.search.searchers import Searcher
from crossover.platform.search.study_rungs import horizon_of
from crossover.platform.search.study_searcher import study_searcher
from crossover.platform.search.warm_start import WarmStart
from crossover.platform.study import Study
from crossover.search_spaces import Scalar, Stratum
from crossover.trainers.identity import config_hash, trial_identity

__all__ = ["budget_of", "cohort_sizes", "first_settings", "plan_of", "scheduler_of"]

_MAX_PARTS = 4  # so that a sampler can learn, and a first answer is there after a part of the FLOPs


@dataclass(frozen=True)
class _StudyStratum:
    study: Study
    stratum: Stratum
    data_hash: str
    searcher: Searcher

    @property
    def label(self) -> str:
        return self.stratum.label

    @property
    def settings(self) -> Mapping[str, Scalar]:
        return self.stratum.settings

    @property
    def num_configurations(self) -> int:
        return self.study.num_configurations(self.stratum)

    @property
    def cohort_size(self) -> int:
        return _cohort_size(self.study, self.num_configurations)

    @cached_property
    def horizon(self) -> Horizon:
        return horizon_of(self.study, self.stratum)

    def max_tokens(self, settings: Mapping[str, Scalar]) -> int:
        epochs = settings.get("schedule.epochs", self.horizon.max_epochs)
        assert isinstance(epochs, int | float), "checked with the study"
        return self.horizon.tokens(epochs)

    def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
        config = self.study.trial_config(self.stratum, settings, repeat)
        return trial_identity(config, self.data_hash), config_hash(config, self.data_hash)


def _cohort_size(study: Study, number: int) -> int:
    search = study.search
    if search.cohort is not None:
        return search.cohort
    if search.sampler == "grid":  # which goes through its space in order: a part would be a corner of it
        return max(1, number)
    parts = max(1, min(_MAX_PARTS, number // search.rungs.eta**2))
    return max(1, math.ceil(number / parts))


def cohort_sizes(study: Study) -> Mapping[str, int]:
    """Configurations that are decided together in each stratum, and so may wait at once, by its label."""
    sizes = {}
    for stratum in study.strata():
        number = study.num_configurations(stratum)
        together = min(number, _cohort_size(study, number))
        sizes[stratum.label] = together if scheduler_of(study).synchronous else number
    return sizes


def plan_of(study: Study, data_hash: str, warm_start: WarmStart | None = None) -> Plan:
    """What a study asks of the planner.

    Args:
        study: the study.
        data_hash: hash of its corpus, which is part of every trial's identity.
        warm_start: what an earlier study found, for the samplers.
    """
    known = warm_start.known if warm_start else {}
    strata = [
        _StudyStratum(study, stratum, data_hash, study_searcher(study, stratum, known.get(stratum.label, ())))
        for stratum in study.strata()
    ]
    return Plan(strata, scheduler_of(study), study.search.repeats, study.search.num_final_repeats)


def scheduler_of(study: Study) -> Scheduler:
    """Who decides at rungs."""
    search = study.search
    name = "asynchronous_halving" if search.asynchronous else search.scheduler
    return get_scheduler(name, SchedulerSettings(search.rungs.eta, search.rungs.first_epoch, search.patience_fraction))


def budget_of(study: Study, attempts: Sequence[Sequence[Decision]] = ()) -> Budget:
    """What a study may spend, and what its earlier attempts have spent; trials' FLOPs are noted by the planner.

    Args:
        study: the study.
        attempts: decisions of each earlier attempt.
    """
    budget, resources = study.budget, study.resources
    return Budget(
        budget.flops,
        budget.wall_seconds,
        attempt_seconds(attempts),
        device_hours=budget.device_hours,
        devices=(1 if (given := resources.given_workers) is None else given.max) * resources.devices_per_worker,
        earlier_leg_seconds=leg_seconds(attempts),
        shares=_shares(study),
    )


def _shares(study: Study) -> Mapping[str, float]:
    split = study.budget.split
    if study.budget.flops is None or split == "shared":
        return {}
    labels = [stratum.label for stratum in study.strata()]
    return dict.fromkeys(labels, 1 / len(labels)) if isinstance(split, str) else split


def first_settings(study: Study, stratum: Stratum, number: int = 0) -> Mapping[str, Scalar]:
    """Settings of configuration `number` as they are suggested before anything is known."""
    return study_searcher(study, stratum).suggest(number) or {}
