"""The settings that a check of a space must try before anything is drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from crossover.search_spaces.domains import Scalar
from crossover.search_spaces.space import Space, Stratum

__all__ = ["corners", "pair_corners"]


def corners(space: Space, stratum: Stratum) -> Iterator[dict[str, Scalar]]:
    """Nuisance settings such that every value, or both ends, of every nuisance axis stands in one of them."""
    yield _settings(space, stratum, {})
    for wanted in _wanted(space, stratum):
        yield _settings(space, stratum, wanted)


def pair_corners(space: Space, stratum: Stratum) -> Iterator[dict[str, Scalar]]:
    """The same for every two values of two nuisance axes."""
    for first, second in combinations(_wanted(space, stratum), 2):
        if next(iter(first)) != next(iter(second)):
            yield _settings(space, stratum, {**first, **second})


def _wanted(space: Space, stratum: Stratum) -> Iterator[dict[str, Scalar]]:
    for path in space.nuisance(stratum):
        for value in space.axes[path].domain.corners:
            yield {path: value, **_conditions(space, stratum, path)}


def _conditions(space: Space, stratum: Stratum, path: str) -> dict[str, Scalar]:
    needed: dict[str, Scalar] = {}
    reachable = space.nuisance(stratum)
    for name in space.axes[path].when:
        if name in reachable:
            domain, allowed = space.axes[name].domain, space.axes[path].allowed(name)
            needed[name] = next((value for value in allowed if domain.takes(value)), allowed[0])
            needed |= _conditions(space, stratum, name)
    return needed


def _settings(space: Space, stratum: Stratum, wanted: Mapping[str, Scalar]) -> dict[str, Scalar]:
    known = {**space.fixed, **stratum.settings}
    chosen: dict[str, Scalar] = {}
    for path in space.nuisance(stratum):
        axis = space.axes[path]
        if axis.holds(known):
            known[path] = chosen[path] = wanted[path] if path in wanted else axis.domain.corners[0]
    return chosen
