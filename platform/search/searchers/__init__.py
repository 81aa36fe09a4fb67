"""Every sampler by its name: which configuration of a stratum is tried next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crossover.platform.search.searchers import coordinate, grid, optuna_samplers
from crossover.platform.search.searchers.base import (
    SAMPLERS,
    Known,
    Searcher,
    SearchRequest,
    Settings,
    Suggest,
    register_sampler,
    seed_of,
)
from crossover.trainers.errors import ConfigError

__all__ = [
    "SAMPLERS",
    "Known",
    "SearchRequest",
    "Searcher",
    "Settings",
    "Suggest",
    "make_searcher",
    "register_sampler",
    "searcher_of",
    "seed_of",
]

_REGISTERED = (optuna_samplers, grid, coordinate)  # importing them registers their samplers


def searcher_of(sampler: str, request: SearchRequest) -> Searcher:
    """The searcher of one stratum.

    Raises:
        ConfigError: there is no such sampler, or it cannot handle the space; the message says what to set.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"search.sampler = {sampler} is unknown: set one of {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler](request)


def make_searcher(
    sampler: str,
    suggest: Suggest,
    seed_parts: Sequence[str | int],
    num_trials: int,
    cost: Callable[[Settings], float] | None = None,
) -> Searcher:
    """The searcher of one stratum without constraints and without an earlier study.

    Args:
        sampler: One of `SAMPLERS`.
        suggest: The space, bound to the stratum.
        seed_parts: What names the search: study seed and stratum.
        num_trials: Configurations that the stratum will have at most.
        cost: Training FLOPs of a configuration, for `nsga2`.

    Raises:
        ConfigError: as `searcher_of`.
    """
    return searcher_of(sampler, SearchRequest(suggest, seed_parts, num_trials, cost=cost))
