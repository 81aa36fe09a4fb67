"""How many workers the trials of a study have, before any is drawn: at the ends of its axes and at pairs of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from crossover.platform.execution.workers import Room, check_state, workers_of
from crossover.platform.search.study_plan import first_settings
from crossover.platform.study import Study
from crossover.platform.study.model import WorkerRange
from crossover.search_spaces import Stratum, corners, pair_corners
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import CrossoverError

__all__ = ["stratum_workers", "workers_of_study"]

_MAX_TRIED = 2_000  # configurations of a stratum


def stratum_workers(study: Study, stratum: Stratum, room: Room) -> WorkerRange:
    """Fewest and most workers of a stratum's trials, over the ends of its axes and pairs of them.

    Raises:
        CrossoverError: one of them fits no number of GPUs that there are, or not what the user gave it.
    """
    if (given := study.resources.given_workers) is not None and (room.gpu_bytes is None):
        return given
    found = []
    for config in _configs(study, stratum):
        try:
            found.append(workers_of(study.resources, config, room))
            check_state(study.resources, config, room)
        except CrossoverError as error:
            raise CrossoverError(f"in stratum {stratum.label}: {error}") from None
    return WorkerRange(min=min(one.min for one in found), max=max(one.max for one in found))


def _configs(study: Study, stratum: Stratum) -> Iterator[TrialConfig]:
    space = study.space
    tried = chain([first_settings(study, stratum)], corners(space, stratum), pair_corners(space, stratum))
    allowed = (settings for settings in islice(tried, _MAX_TRIED) if study.allows(stratum, settings))
    configs = (study.trial_config(stratum, settings) for settings in allowed)
    distinct = {_what_counts(config): config for config in configs}
    yield from distinct.values()


def _what_counts(config: TrialConfig) -> str:
    """Configurations that are alike in this need the same memory."""
    return config.model_dump_json(
        include={
            "data": {"unique_tokens", "sequence_length"},
            "model": True,
            "objective": True,
            "optimizer": {"name"},
            "schedule": {"batch_size"},
            "regularization": True,
            "averaging": True,
            "execution": True,
        }
    )


def workers_of_study(study: Study, room: Room) -> WorkerRange:
    """Fewest and most workers of all trials.

    Raises:
        CrossoverError: as in `stratum_workers`.
    """
    found = [stratum_workers(study, stratum, room) for stratum in study.strata()]
    resize = (study.resources.given_workers or found[0]).resize_seconds
    return WorkerRange(min=min(one.min for one in found), max=max(one.max for one in found), resize_seconds=resize)
