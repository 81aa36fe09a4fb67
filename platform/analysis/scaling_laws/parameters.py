"""Intervals of parameters, and whether the data identify them at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Parameter
from crossover.platform.analysis.scaling_laws.profiles import Profile
from crossover.platform.analysis.scaling_laws.results import ParameterFit
from crossover.platform.analysis.scaling_laws.solving import Solution

__all__ = ["parameter_fits"]

Floats = NDArray[np.float64]

_SPAN = 10.0  # an interval whose ends are further apart says nothing of a positive number
_AT_BOUND = 1e-6


def parameter_fits(
    solution: Solution, draws_BP: Floats, profiles: Sequence[Profile], level: float
) -> tuple[ParameterFit, ...]:
    """Every parameter with its interval: of its profile where there is one, else of the bootstrap."""
    joint = solution.problem.joint
    value_P = joint.natural(solution.theta_P[None])[0]
    by_name = {found.name: found for found in profiles}
    tails = [(1 - level) / 2, (1 + level) / 2]
    fits = []
    for place, (parameter, _) in enumerate(joint.columns):
        name = joint.names[place]
        if not solution.free_P[place]:
            value = float(value_P[place])
            fits.append(ParameterFit(name, value, value, value, "given", True, False, None))
            continue
        if name in by_name:
            low, high, method = by_name[name].low, by_name[name].high, "profile"
        else:
            low, high = _bounded(parameter, np.quantile(draws_BP[:, place], tails))
            method = "bootstrap"
        reason = _reason(parameter, low, high, level)
        at_bound = _is_at_bound(parameter, float(solution.theta_P[place]))
        fits.append(ParameterFit(name, float(value_P[place]), low, high, method, reason is None, at_bound, reason))
    return tuple(fits)


def _is_at_bound(parameter: Parameter, theta: float) -> bool:
    return min(abs(theta - bound) for bound in parameter.bounds) < _AT_BOUND


def _bounded(parameter: Parameter, ends: Floats) -> tuple[float | None, float | None]:
    """Ends in reported units; None at a bound of the search."""
    lower, upper = parameter.bounds
    low, high = (float(np.exp(end)) if parameter.logarithmic else float(end) for end in ends)
    return None if ends[0] < lower + _AT_BOUND else low, None if ends[1] > upper - _AT_BOUND else high


def _reason(parameter: Parameter, low: float | None, high: float | None, level: float) -> str | None:
    interval = f"its {100 * level:.3g} % interval"
    if low is None and high is None:
        return f"{interval} is unbounded: any value from {parameter.lower:g} to {parameter.upper:g} fits as well"
    if low is None:
        return f"{interval} has no lower end: {parameter.lower:g} fits as well as {high:.3g}"
    if high is None:
        return f"{interval} has no upper end: {parameter.upper:g} fits as well as {low:.3g}"
    if parameter.lower > 0 and high > _SPAN * low:
        return f"{interval} runs from {low:.3g} to {high:.3g}, a factor of {high / low:.3g}"
    return None
