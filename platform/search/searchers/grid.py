"""Every configuration of a finite space, or a fair sample of it without repeats.

In order where all of them are visited; otherwise in an order that the study's seed draws, since the first few points
of a grid vary its last axes only. What breaks a constraint is left out.
"""

from __future__ import annotations

import random
from itertools import islice

from crossover.platform.search.searchers.base import Searcher, SearchRequest, Settings, register_sampler, seed_of
from crossover.platform.search.searchers.sources import UnlistedAxisError, every_point
from crossover.trainers.errors import ConfigError

__all__ = ["MAX_GRID_POINTS", "GridSearcher"]

MAX_GRID_POINTS = 10_000


@register_sampler("grid")
class GridSearcher(Searcher):
    """Configuration `number` is point `number`.

    Raises:
        ConfigError: an axis is continuous, or there are too many points.
    """

    def __init__(self, request: SearchRequest) -> None:
        try:
            points = list(islice(every_point(request.suggest), MAX_GRID_POINTS + 1))
        except UnlistedAxisError as error:
            raise ConfigError(
                f"search.sampler = grid visits values that are listed, and axes.{error.path} is a range of numbers: "
                "give it choice or grid, or set the sampler to tpe"
            ) from None
        if len(points) > MAX_GRID_POINTS:
            raise ConfigError(
                f"search.sampler = grid: more than {MAX_GRID_POINTS:,} configurations: give the axes fewer values, or "
                "set the sampler to tpe"
            )
        self._points = [point for point in points if request.allowed(point)]
        if len(self._points) > request.num_trials:
            random.Random(seed_of(*request.seed_parts, "grid")).shuffle(self._points)

    def suggest(self, number: int, attempt: int = 0) -> Settings | None:
        """A higher attempt is a later point: what was tried under another name is skipped."""
        index = number + attempt
        return self._points[index] if index < len(self._points) else None

    def observe(self, number: int, settings: Settings) -> None:
        """A grid does not learn."""

    def tell(self, number: int, value: float | None) -> None:
        """A grid does not learn."""
