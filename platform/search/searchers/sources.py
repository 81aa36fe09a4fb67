"""Sources of values that a space is asked with: known settings given back, or every value in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from crossover.platform.search.searchers.base import Settings, Suggest
from crossover.search_spaces import Scalar

__all__ = ["Replay", "UnlistedAxisError", "every_point"]


class Replay:
    """Gives back settings that are known, and keeps the distributions that they are asked from.

    Args:
        settings: What is known, by path.
        other: Gives the value of a path that is not known, from its distribution; None: every path is known.
    """

    def __init__(self, settings: Settings, other: Callable[[str, BaseDistribution], Scalar] | None = None) -> None:
        self._settings = settings
        self._other = other
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """The known choice."""
        value: Scalar = self._given(name, CategoricalDistribution(tuple(choices)))
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The known number."""
        return float(self._given(name, FloatDistribution(low, high, log=log)))

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """The known integer."""
        return int(self._given(name, IntDistribution(low, high)))

    def _given(self, name: str, distribution: BaseDistribution) -> Any:
        known = self._other is None or name in self._settings
        value = self._settings[name] if known or self._other is None else self._other(name, distribution)
        self.params[name] = value
        self.distributions[name] = distribution
        return value


class UnlistedAxisError(Exception):
    """An axis whose values cannot be listed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def every_point(suggest: Suggest) -> Iterator[Settings]:
    """Every configuration of a space, the axis that is asked last fastest.

    Raises:
        UnlistedAxisError: an axis is continuous.
    """
    turn: _Odometer | None = _Odometer({})
    while turn is not None:
        yield suggest(turn, None)
        turn = turn.next()


class _Odometer:
    """Answers with the value at each path's place; the places of the next configuration follow from what was asked."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._asked: list[tuple[str, int, int]] = []  # path, place, number of values

    def next(self) -> _Odometer | None:
        """The configuration after this one; None: this was the last."""
        for at in reversed(range(len(self._asked))):
            path, place, count = self._asked[at]
            if place + 1 < count:
                return _Odometer({**{name: index for name, index, _ in self._asked[:at]}, path: place + 1})
        return None

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """The choice at the path's place."""
        return choices[self._place(name, len(choices))]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """There is no list of them."""
        raise UnlistedAxisError(name)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """The integer at the path's place."""
        return low + self._place(name, high - low + 1)

    def _place(self, name: str, count: int) -> int:
        place = self._places.get(name, 0)
        self._asked.append((name, place, count))
        return place
