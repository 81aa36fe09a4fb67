"""How low a falling loss curve may still get: a power law with an asymptote, and how sure that is.

y(t) = a + b t^-c. For each exponent of a fixed grid a and b are linear, so the fit is closed, without iterations and
without a random start; the exponents are weighted by how well they fit (flat prior, noise integrated out), and the
interval is that of the mixture of their Student-t predictions. 0.3 ms a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["MIN_POINTS", "Prediction", "predict_best"]

MIN_POINTS = 5
"""Fewer points on the falling part say nothing about three parameters."""

_MAX_POINTS = 16  # the newest: the first steps of a run follow no power law
_EXPONENTS = np.geomspace(0.05, 3.0, 32)
_NOISE_FLOOR = 1e-4  # relative to the value: a fit that is better than that is luck, with so few points
_PAST_BEST = 2  # evaluations after the best one, all above it, after which the curve counts as turned

_BISECTIONS = 40
_REFINEMENTS = 2
_NEGLIGIBLE = 1e-6

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Where the best value will lie at the end: the middle, and the ends of the interval."""

    low: float
    middle: float
    high: float


def predict_best(
    tokens: Sequence[float], values: Sequence[float], tokens_end: float, coverage: float = 0.8
) -> Prediction | None:
    """The best value of a run by its end, with an interval.

    Args:
        tokens: tokens seen at each evaluation, increasing.
        values: loss at each, bits per byte or nats; what is not finite is left out.
        tokens_end: tokens seen at the end of the run.
        coverage: probability of the interval.

    Returns:
        None where fewer than `MIN_POINTS` evaluations lie on the falling part. A curve that has turned (two
        evaluations in a row above an earlier best) is expected to keep the best it had; but a minority fall again
        (double descent), so the lower end stays what the falling part says.
    """
    t, y = _finite(tokens, values)
    if len(y) == 0:
        return None
    best = int(np.argmin(y))
    turned, last = len(y) - 1 - best >= _PAST_BEST, float(t[-1])
    t, y = _falling(t[: best + 1], y[: best + 1])
    reached = float(y[-1])
    if len(y) < MIN_POINTS:
        return Prediction(reached, reached, reached) if turned else None
    if tokens_end <= last:
        return Prediction(reached, reached, reached)
    tail = (1 - coverage) / 2
    low, middle, high = _quantiles(t / t[-1], y, tokens_end / t[-1], np.array([tail, 0.5, 1 - tail]))
    low, middle, high = (min(max(0.0, float(end)), reached) for end in (low, middle, high))
    return Prediction(low, reached, reached) if turned else Prediction(low, middle, high)


def _finite(tokens: Sequence[float], values: Sequence[float]) -> tuple[_Floats, _Floats]:
    t, y = np.asarray(tokens, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.isfinite(y) & (t > 0)
    return t[known], y[known]


def _falling(t: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
    """From the highest point to the lowest one, the newest of them."""
    start = max(int(np.argmax(y)), len(y) - _MAX_POINTS)
    return t[start:], y[start:]


def _quantiles(t: _Floats, y: _Floats, end: float, levels: _Floats) -> _Floats:
    """Of the mixture over exponents, at `end`; times are relative to the last one."""
    exponents = _EXPONENTS
    fits = _fits(t, y, end, exponents)
    for _ in range(_REFINEMENTS):  # a good curve leaves one exponent of a coarse grid
        likely = np.flatnonzero(fits.weight > _NEGLIGIBLE)
        low, high = exponents[max(0, likely[0] - 1)], exponents[min(len(exponents) - 1, likely[-1] + 1)]
        exponents = np.geomspace(low, high, len(_EXPONENTS))
        fits = _fits(t, y, end, exponents)
    return _mixture_quantiles(levels, fits)


@dataclass(frozen=True)
class _Fits:
    """The prediction at the end under each exponent: Student-t, with its weight."""

    weight: _Floats
    centre: _Floats
    scale: _Floats
    degrees: int


def _fits(t: _Floats, y: _Floats, end: float, exponents: _Floats) -> _Fits:
    x, x_end = t[None, :] ** -exponents[:, None], end**-exponents
    num, degrees = len(y), len(y) - 2
    x_mean, y_mean = x.mean(1, keepdims=True), y.mean()
    spread = ((x - x_mean) ** 2).sum(1)
    slope = np.maximum(0.0, ((x - x_mean) * (y - y_mean)).sum(1) / spread)
    squares = ((y - y_mean - slope[:, None] * (x - x_mean)) ** 2).sum(1) + num * (_NOISE_FLOOR * y_mean) ** 2
    centre = y_mean + slope * (x_end - x_mean[:, 0])
    scale = np.sqrt(squares / degrees * (1 + 1 / num + (x_end - x_mean[:, 0]) ** 2 / spread))
    # Priors are flat in a and in the change still to come, b (1 - x_end), and 1/s in the noise: integrating them out
    # leaves SSE^(-(n-2)/2) over the root of the spread of x, times that change of b's scale.
    log_weight = -0.5 * degrees * np.log(squares) - 0.5 * np.log(spread) + np.log(1 - x_end)
    weight = np.exp(log_weight - log_weight.max())
    return _Fits(weight / weight.sum(), centre, scale, degrees)


def _mixture_quantiles(levels: _Floats, fits: _Fits) -> _Floats:
    """By bisection, all levels at once."""
    reach = 40 * fits.scale
    low = np.full(len(levels), float((fits.centre - reach).min()))
    high = np.full(len(levels), float((fits.centre + reach).max()))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = special.stdtr(fits.degrees, (middle[:, None] - fits.centre) / fits.scale) @ fits.weight
        low, high = np.where(below < levels, middle, low), np.where(below < levels, high, middle)
    quantiles: _Floats = (low + high) / 2
    return quantiles
