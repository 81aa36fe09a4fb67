"""`Space`: the axes of a study together. Pure Python; whoever suggests comes from outside.

Settings grow in one fixed order in which every axis follows those that its conditions name, so whether an axis applies
is always decided by values that are already there. A fixed value holds wherever the axis of its path does not apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from crossover.search_spaces.axis import Axis
from crossover.search_spaces.checks import ordered_paths, space_mistakes
from crossover.search_spaces.domains import Grid, Integer, Scalar, Source, same
from crossover.search_spaces.errors import SpaceError

__all__ = ["MAX_STRATA", "Space", "Stratum"]

MAX_STRATA = 1_000
MAX_POINTS = 10_000
MAX_ALL_POINTS = 100_000


@dataclass(frozen=True)
class Stratum:
    """One combination of the scientific axes' values.

    Args:
        settings: Values of the scientific axes that apply, label axes included.
        label: Short and readable: `recipe=tuned objective=masked_diffusion`; unique in its space.
    """

    settings: Mapping[str, Scalar] = field(hash=False)
    label: str


class Space:
    """What a study varies.

    Args:
        axes: Axes by their dotted path, or by their name for a label axis.
        fixed: Settings that do not vary, by dotted path; conditions may name them.

    Raises:
        SpaceError: the axes contradict each other, or give too many strata.
    """

    def __init__(self, axes: Mapping[str, Axis], fixed: Mapping[str, Scalar] | None = None) -> None:
        self.axes = dict(axes)
        self.fixed = dict(fixed or {})
        mistakes = space_mistakes(self.axes, self.fixed)
        if mistakes:
            raise SpaceError(mistakes)
        self._order = ordered_paths(self.axes)
        self._reached: dict[str, tuple[str, ...]] = {}
        self._strata = self._make_strata()
        num_points = 0
        for stratum in self._strata:
            self.nuisance(stratum)  # refuses too many conditions
            num_points += len(self.grid_points(stratum))
            if num_points > MAX_ALL_POINTS:
                raise SpaceError(f"more than {MAX_ALL_POINTS} grid points over all strata: give the axes fewer values")

    def strata(self) -> list[Stratum]:
        """Every combination of the scientific axes that apply, in the order in which the study writes them."""
        return list(self._strata)

    def active(self, settings: Mapping[str, Scalar]) -> tuple[str, ...]:
        """Paths of the axes that apply under these settings."""
        known = {**self.fixed, **settings}
        return tuple(path for path in self._order if self.axes[path].holds(known))

    def nuisance(self, stratum: Stratum) -> tuple[str, ...]:
        """Paths of the nuisance axes that can apply somewhere in the stratum."""
        if stratum.label not in self._reached:
            self._reached[stratum.label] = self._reach(stratum)
        return self._reached[stratum.label]

    def grid_points(self, stratum: Stratum) -> list[dict[str, Scalar]]:
        """The points of the nuisance grids in a stratum, the last axis fastest; one empty point without grids."""
        grids = [path for path in self._nuisance_order if isinstance(self.axes[path].domain, Grid)]
        return self._expand(grids, stratum.settings, MAX_POINTS, f"grid points in stratum {stratum.label}")

    def points(self, stratum: Stratum) -> list[dict[str, Scalar]] | None:
        """Every configuration of a stratum; None where they cannot be listed or pass 10,000."""
        paths = self.nuisance(stratum)
        if any(self.axes[path].domain.values is None for path in paths):
            return None
        try:
            return self._expand(paths, stratum.settings, MAX_POINTS, "configurations")
        except SpaceError:
            return None

    def is_sampled(self, stratum: Stratum) -> bool:
        """Whether a stratum has nuisance axes that a sampler must draw."""
        return any(not isinstance(self.axes[path].domain, Grid) for path in self.nuisance(stratum))

    def suggest(self, stratum: Stratum, source: Source, number: int | None = 0) -> dict[str, Scalar]:
        """Nuisance settings of one configuration.

        Args:
            stratum: Where it belongs.
            source: Asked for every sampled axis that applies, always in the same order.
            number: Which configuration of the stratum, from 0: it takes grid point `number` modulo their count. None:
                grids are asked of the source like choices.
        """
        point: Mapping[str, Scalar] = {}
        if number is not None:
            points = self.grid_points(stratum)
            point = points[number % len(points)]
        known = {**self.fixed, **stratum.settings}
        chosen: dict[str, Scalar] = {}
        for path in self._nuisance_order:
            axis = self.axes[path]
            if axis.holds(known):
                value = point[path] if path in point else axis.domain.suggest(path, source)
                known[path] = chosen[path] = value
        return chosen

    @cached_property
    def _nuisance_order(self) -> tuple[str, ...]:
        return tuple(path for path in self._order if self.axes[path].role == "nuisance")

    def _reach(self, stratum: Stratum) -> tuple[str, ...]:
        """Tries every combination of the values that decide conditions, so that contradictions are seen."""
        deciding = self._deciding()
        found: set[str] = set()
        cases: list[dict[str, Scalar]] = [{}]
        for path in self._nuisance_order:
            axis, grown = self.axes[path], []
            for case in cases:
                applies = axis.holds({**self.fixed, **stratum.settings, **case})
                if applies:
                    found.add(path)
                grown += [{**case, path: v} for v in deciding[path]] if applies and path in deciding else [case]
            cases = grown
            if len(cases) > MAX_POINTS:
                raise SpaceError(f"more than {MAX_POINTS:,} cases of conditions in one stratum: use fewer conditions")
        return tuple(path for path in self._nuisance_order if path in found)

    def _deciding(self) -> dict[str, list[Scalar]]:
        """The values of each nuisance axis that conditions tell apart: those they name, and one that none names."""
        named: dict[str, list[Scalar]] = {}
        for axis in self.axes.values():
            for path in axis.when:
                if path in self._nuisance_order:
                    known = named.setdefault(path, [])
                    known += [v for v in axis.allowed(path) if not any(same(v, w) for w in known)]
        for path, values in named.items():
            domain = self.axes[path].domain
            taken = [value for value in values if domain.takes(value)]
            listed = range(domain.low, domain.high + 1) if isinstance(domain, Integer) else domain.values or ()
            others = (value for value in listed if not any(same(value, other) for other in taken))
            named[path] = [*taken, *islice(others, 1)]
        return named

    def _make_strata(self) -> list[Stratum]:
        scientific = [path for path in self._order if self.axes[path].role == "scientific"]
        short = _short_names([path for path in self.axes if path in scientific])
        found = []
        for point in self._expand(scientific, {}, MAX_STRATA, "strata"):
            settings = {path: point[path] for path in self.axes if path in point}
            label = " ".join(f"{short[path]}={_shown(value)}" for path, value in settings.items())
            found.append(Stratum(settings, label or "all"))
        return found

    def _expand(
        self, paths: Iterable[str], given: Mapping[str, Scalar], limit: int, what: str
    ) -> list[dict[str, Scalar]]:
        points: list[dict[str, Scalar]] = [{}]
        for path in paths:
            axis = self.axes[path]
            grown: list[dict[str, Scalar]] = []
            for point in points:
                applies = axis.holds({**self.fixed, **given, **point})
                grown += [{**point, path: value} for value in axis.domain.values or ()] if applies else [point]
                if len(grown) > limit:
                    raise SpaceError(f"more than {limit} {what}: give the axes fewer values")
            points = grown
        return points


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    short = {}
    for path in paths:
        *groups, name = path.split(".")
        short[path] = groups[-1] if groups and name == "name" else name
    names = list(short.values())
    return {path: name if names.count(name) == 1 else path for path, name in short.items()}


def _shown(value: Scalar) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
