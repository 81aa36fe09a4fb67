"""What a fit minimises: a sum over rows of a function of r = ln(predicted loss) - ln(measured loss).

Absolute values have no curvature: they are minimised as Huber functions whose delta falls to 1e-8, and reported as they
are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["OBJECTIVES", "Objective", "Pull", "objective_of", "register_objective"]

Floats = NDArray[np.float64]
HUBER_DELTA = 1e-3


@dataclass(frozen=True)
class Pull:
    """Derivatives of the objective by the residual, elementwise.

    Args:
        first: psi.
        second: its derivative.
        weight: psi(r) / r, never negative: the weight of the least-squares problem with the same gradient.
    """

    first: Floats
    second: Floats
    weight: Floats


class Objective(ABC):
    """A sum over rows; `deltas` are the widths in which it is minimised, one after another."""

    name: str
    deltas: tuple[float, ...]

    @abstractmethod
    def loss(self, residual: Floats, delta: float | None = None) -> Floats:
        """Value of each row; with `delta`, of its smooth stand-in of that width."""

    @abstractmethod
    def pull(self, residual: Floats, delta: float) -> Pull:
        """Derivatives of the stand-in."""


@dataclass(frozen=True)
class Huber(Objective):
    """r^2/2 up to delta, then delta (|r| - delta/2); rows above the law count `tilt` times, those below it 2 - tilt.

    Args:
        delta: where it turns from squares to absolute values.
        tilt: 1: symmetric. Below 1 measured losses above the law count less: what was badly tuned lies above it.
    """

    name: str = "huber"
    delta: float = HUBER_DELTA
    tilt: float = 1.0

    @property
    def deltas(self) -> tuple[float, ...]:  # type: ignore[override]
        """From wide to narrow: far from the optimum a narrow one has no curvature."""
        return (*(d for d in (0.1, 0.01) if d > self.delta), self.delta)

    def loss(self, residual: Floats, delta: float | None = None) -> Floats:
        """Value of each row."""
        width = self.delta if delta is None else delta
        size = np.abs(residual)
        inner = np.minimum(size, width)
        value: Floats = inner * (size - 0.5 * inner)
        return value if self.tilt == 1.0 else value * self._sides(residual)

    def pull(self, residual: Floats, delta: float) -> Pull:
        """Derivatives of each row."""
        first = np.clip(residual, -delta, delta)
        second = (np.abs(residual) <= delta).astype(np.float64)
        weight = delta / np.maximum(np.abs(residual), delta)
        if self.tilt == 1.0:
            return Pull(first, second, weight)
        sides = self._sides(residual)
        return Pull(first * sides, second * sides, weight * sides)

    def _sides(self, residual: Floats) -> Floats:
        return np.where(residual < 0, self.tilt, 2 - self.tilt)


@dataclass(frozen=True)
class AbsoluteDeviation(Objective):
    """|r|: least absolute deviation."""

    name: str = "lad"
    deltas: tuple[float, ...] = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)

    def loss(self, residual: Floats, delta: float | None = None) -> Floats:
        """|r|, or the Huber function divided by delta."""
        if delta is None:
            return np.abs(residual)
        return Huber(delta=delta).loss(residual) / delta

    def pull(self, residual: Floats, delta: float) -> Pull:
        """Those of the Huber function, divided by delta."""
        pull = Huber().pull(residual, delta)
        return Pull(pull.first / delta, pull.second / delta, pull.weight / delta)


@dataclass(frozen=True)
class Squares(Objective):
    """r^2."""

    name: str = "squared"
    deltas: tuple[float, ...] = (1.0,)

    def loss(self, residual: Floats, delta: float | None = None) -> Floats:
        """r^2."""
        return residual**2

    def pull(self, residual: Floats, delta: float) -> Pull:
        """2 r, 2."""
        return Pull(2 * residual, np.full_like(residual, 2.0), np.full_like(residual, 2.0))


OBJECTIVES: dict[str, Objective] = {}


def register_objective(objective: Objective) -> Objective:
    """Make an objective known by its name."""
    OBJECTIVES[objective.name] = objective
    return objective


def objective_of(name: str) -> Objective:
    """An objective by its name."""
    return OBJECTIVES[name]


register_objective(Huber())
register_objective(AbsoluteDeviation())
register_objective(Squares())
register_objective(Huber(name="asymmetric", tilt=0.5))
