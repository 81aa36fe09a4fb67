"""A study, as the planner sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossover.platform.search.plan import Plan
from crossover.platform.search.schedulers import get_scheduler
from crossover.platform.search.searchers import Searcher
from crossover.platform.search.study_searcher import study_searcher
from crossover.platform.search.warm_start import WarmStart
from crossover.platform.study import Study
from crossover.search_spaces import Scalar, Stratum
from crossover.trainers.config import config_hash, trial_identity

__all__ = ["first_settings", "plan_of"]


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

    def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
        config = self.study.trial_config(self.stratum, settings, repeat)
        return trial_identity(config, self.data_hash), config_hash(config, self.data_hash)


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
    scheduler = get_scheduler(study.search.scheduler)
    return Plan(strata, scheduler, study.search.repeats, study.search.num_final_repeats)


def first_settings(study: Study, stratum: Stratum, number: int = 0) -> Mapping[str, Scalar]:
    """Settings of configuration `number` as they are suggested before anything is known."""
    return study_searcher(study, stratum).suggest(number) or {}
