"""Coordinate descent, as in "Pre-training under infinite compute" (arXiv 2509.14786): one axis at a time by a factor.

From the start, both neighbours on the first axis are tried; the search moves to the better one where that is better
than where it stands, and goes on along the same axis; then comes the next axis. It ends when no neighbour is better.
Where it stands is computed anew from the values that are known, so the order of their arrival changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from crossover.platform.search.searchers.base import Searcher, SearchRequest, Settings, register_sampler
from crossover.platform.search.searchers.sources import Replay
from crossover.search_spaces import Scalar
from crossover.trainers.errors import ConfigError

__all__ = ["CoordinateSearcher", "Ladder", "ladder_of"]

_UNIFORM_STEPS = 10  # steps from end to end of a uniform range, which has no natural factor

_Point = Mapping[str, int]  # rung of the ladder of each axis that was ever asked


@register_sampler("coordinate_descent")
class CoordinateSearcher(Searcher):
    """Suggests the two neighbours, on one axis, of where the descent stands.

    Raises:
        ConfigError: an axis has no order, or the start lies outside of an axis.
    """

    def __init__(self, request: SearchRequest) -> None:
        self._request = request
        known = [known for known in request.known if request.allowed(known.settings)]
        best = min(known, key=lambda known: known.value, default=None)
        self._start: Settings = {**request.start, **(best.settings if best else {})}
        self._ladders: dict[str, Ladder] = {}
        self._taken: dict[int, Settings] = {}
        self._values: dict[_Key, float] = {}
        start = self._place({}).settings  # reads the axes, and refuses those without an order
        if not request.allowed(start):
            shown = ", ".join(f"{path} = {value}" for path, value in start.items())
            raise ConfigError(
                f"search.start: {shown} breaks search.constraints: begin at a configuration that is allowed"
            )

    def suggest(self, number: int, attempt: int = 0) -> Settings | None:
        """A higher attempt is the next neighbour that is wanted."""
        wanted = [place.settings for place in self._wanted()]
        taken = {_key(settings) for settings in self._taken.values()}
        left = [settings for settings in wanted if _key(settings) not in taken]
        return left[attempt] if attempt < len(left) else None

    def observe(self, number: int, settings: Settings) -> None:
        """It is under way."""
        self._taken[number] = settings

    def tell(self, number: int, value: float | None) -> None:
        """A failed configuration is worse than any other."""
        self._values[_key(self._taken[number])] = math.inf if value is None else value

    def _wanted(self) -> list[_Place]:
        """The configurations whose values are needed to go on, better known ones aside; none at the end."""
        here = self._place({})
        if not self._is_known(here):
            return [here]
        axis, without_move = 0, 0
        while without_move < len(here.axes):
            path = here.axes[axis % len(here.axes)]
            neighbours = [place for place in self._neighbours(here, path) if self._request.allowed(place.settings)]
            unknown = [place for place in neighbours if not self._is_known(place)]
            if unknown:
                return unknown
            best = min(neighbours, key=self._value, default=here)
            if self._value(best) < self._value(here):
                here, without_move = best, 0
                axis = here.axes.index(path) if path in here.axes else 0
            else:
                axis, without_move = axis + 1, without_move + 1
        return []

    def _neighbours(self, here: _Place, path: str) -> Iterator[_Place]:
        for step in (1, -1):
            rung = here.point[path] + step
            if 0 <= rung < len(self._ladders[path].values):
                yield self._place({**here.point, path: rung})

    def _place(self, point: _Point) -> _Place:
        rungs: dict[str, int] = {}

        def value(path: str, distribution: BaseDistribution) -> Scalar:
            if path not in self._ladders:
                self._ladders[path] = ladder_of(path, distribution, self._start.get(path), self._request.factor)
            ladder = self._ladders[path]
            rungs[path] = point.get(path, ladder.start)
            return ladder.values[rungs[path]]

        settings = self._request.suggest(Replay({}, other=value), None)
        axes = tuple(path for path in rungs if len(self._ladders[path].values) > 1)
        return _Place({**point, **rungs}, axes, settings)

    def _is_known(self, place: _Place) -> bool:
        return _key(place.settings) in self._values

    def _value(self, place: _Place) -> float:
        return self._values[_key(place.settings)]


@dataclass(frozen=True)
class _Place:
    """A configuration: rungs of all ladders, the axes that apply and can move, and what that sets."""

    point: _Point
    axes: tuple[str, ...]
    settings: Settings


_Key = tuple[tuple[str, str], ...]


def _key(settings: Settings) -> _Key:
    return tuple(sorted((path, repr(value)) for path, value in settings.items()))


@dataclass(frozen=True)
class Ladder:
    """The values of one axis that a descent can come to, in order, and the rung where it begins."""

    values: Sequence[Scalar]
    start: int


def ladder_of(path: str, distribution: BaseDistribution, start: Scalar, factor: float) -> Ladder:
    """The ladder of one axis.

    A logarithmic range and whole numbers go by the factor from the start, a uniform range by a tenth of it, listed
    numbers from each to the next.

    Args:
        path: The axis.
        distribution: What it can be.
        start: Where it begins; None: in the middle.
        factor: Ratio of one step, above 1.

    Raises:
        ConfigError: the values have no order, or the start is none of them.
    """
    if isinstance(distribution, CategoricalDistribution):
        return _listed(path, distribution.choices, start)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if start is None:
        begin: float = _middle(distribution)
    elif isinstance(start, int | float) and not isinstance(start, bool) and low <= start <= high:
        begin = start
    else:
        raise _outside(path, start, f"{low} to {high}")
    if isinstance(distribution, IntDistribution):
        return _climb(int(begin), distribution.low, distribution.high, factor)
    if distribution.log:
        below, above = _whole(math.log(begin / low, factor)), _whole(math.log(high / begin, factor))
        rungs = [min(max(begin * factor**k, low), high) for k in range(-below, above + 1)]
    else:
        step = (high - low) / _UNIFORM_STEPS
        below, above = _whole((begin - low) / step), _whole((high - begin) / step)
        rungs = [min(max(begin + k * step, low), high) for k in range(-below, above + 1)]
    return Ladder([*rungs[:below], begin, *rungs[below + 1 :]], below)


def _middle(distribution: FloatDistribution | IntDistribution) -> float:
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return round(math.sqrt(low * high)) if low > 0 else (low + high) // 2
    return math.sqrt(low * high) if distribution.log else (low + high) / 2


def _listed(path: str, choices: Sequence[Any], start: Scalar) -> Ladder:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in choices):
        raise ConfigError(
            f"search.sampler = coordinate_descent goes up and down an axis, and axes.{path} has values without an "
            f"order ({', '.join(map(str, choices[:4]))}): make it scientific, put one value in fixed, or set the "
            "sampler to tpe"
        )
    rungs = sorted(choices)
    if start is not None and start not in rungs:
        raise _outside(path, start, ", ".join(map(str, rungs[:8])))
    return Ladder(rungs, len(rungs) // 2 if start is None else rungs.index(start))


def _outside(path: str, start: Scalar, known: str) -> ConfigError:
    return ConfigError(f"search.start.{path} = {start}, but its axis takes {known}: set one of these")


def _whole(steps: float) -> int:
    """Whole steps, where a rounding error is no step less."""
    return math.floor(steps + 1e-9)


def _climb(begin: int, low: int, high: int, factor: float) -> Ladder:
    """Whole numbers by the factor, at least by 1."""
    above, below = [begin], [begin]
    while (value := max(above[-1] + 1, round(above[-1] * factor))) <= high:
        above.append(value)
    while (value := min(below[-1] - 1, round(below[-1] / factor))) >= low:
        below.append(value)
    return Ladder([*reversed(below[1:]), *above], len(below) - 1)
