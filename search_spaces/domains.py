"""What values an axis can take, and how one is drawn.

A `Source` is anything with Optuna's three `suggest_` methods: a live trial, a fixed one, or a test's stub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["Choice", "Domain", "Grid", "Integer", "LogUniform", "Scalar", "Source", "Uniform", "same"]

Scalar: TypeAlias = str | int | float | bool | None

_MAX_LISTED_INTEGERS = 1_000


class Source(Protocol):
    """Where values come from: the part of `optuna.Trial` that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """One of the choices."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]; uniform in its logarithm if `log`."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]."""


class Domain(Protocol):
    """The values of one axis."""

    @property
    def values(self) -> tuple[Scalar, ...] | None:
        """Every value in order; None where they cannot be listed."""

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """The values that a check of the whole domain must try: all of them, or both ends."""

    def takes(self, value: Scalar) -> bool:
        """Whether the value is one of them."""

    def suggest(self, path: str, source: Source) -> Scalar:
        """One value, asked of the source under the axis' path."""


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Scalar, ...]

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """Every value."""
        return self.values

    def takes(self, value: Scalar) -> bool:
        """Whether the value is one of them."""
        return any(same(value, other) for other in self.values)

    def suggest(self, path: str, source: Source) -> Scalar:
        """One of the values."""
        return source.suggest_categorical(path, self.values)


@dataclass(frozen=True)
class Grid(Choice):
    """Every one of some values, in order: a space visits grids by number, and asks a source only where it has none."""


@dataclass(frozen=True)
class Uniform:
    """A number in [low, high]."""

    low: float
    high: float

    @property
    def values(self) -> None:
        """Cannot be listed."""
        return None

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """Both ends."""
        return (self.low, self.high)

    def takes(self, value: Scalar) -> bool:
        """Whether the value is a number in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def suggest(self, path: str, source: Source) -> Scalar:
        """A number, uniform in the range."""
        return source.suggest_float(path, self.low, self.high)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A number in [low, high], uniform in its logarithm."""

    def suggest(self, path: str, source: Source) -> Scalar:
        """A number, uniform in its logarithm."""
        return source.suggest_float(path, self.low, self.high, log=True)


@dataclass(frozen=True)
class Integer:
    """An integer in [low, high]."""

    low: int
    high: int

    @property
    def values(self) -> tuple[Scalar, ...] | None:
        """Every integer, unless there are more than a thousand."""
        if self.high - self.low >= _MAX_LISTED_INTEGERS:
            return None
        return tuple(range(self.low, self.high + 1))

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """Both ends."""
        return (self.low, self.high)

    def takes(self, value: Scalar) -> bool:
        """Whether the value is a whole number in the range."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and value == int(value)
        )

    def suggest(self, path: str, source: Source) -> Scalar:
        """An integer, uniform in the range."""
        return source.suggest_int(path, self.low, self.high)


def same(a: object, b: object) -> bool:
    """Equality in which True is not 1: YAML tells them apart, and so do settings."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b
