"""What a waiting trial may come to, told from two sides: its own curve, and how far those that have ended fell since.

Each alone is fooled by what the other one sees. A bump on the way down bends the extrapolation of a curve, which then
stands too high; others that stood where this trial stands show that it will still fall. And a slow starter falls
further than all of them, which its own curve shows. So a trial has a chance while either gives it one.

Where its own curve is too short to say anything, what waits further on says where it may lead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from statistics import fmean, stdev

from scipy import special

from crossover.platform.search.schedulers.cohort import Standing
from crossover.platform.search.schedulers.extrapolation import Prediction, predict_best

__all__ = ["Forecaster"]

_UPPER = 0.9  # of an interval of 80 %
_NORMAL = float(special.ndtri(_UPPER))
_PRIOR_DEGREES = 2
_PRIOR_ERRORS = 1
_MIN_FALLS = 3  # what two have in common is no rule


class Forecaster:
    """Tells what trials may come to by what became of others.

    Args:
        ended: trials of the stratum that came to their own end.
        waiting: those that wait at a rung.
    """

    def __init__(self, ended: Sequence[Standing], waiting: Sequence[Standing] = ()) -> None:
        self._ended = [end for end in ended if end.value is not None and end.curve]
        self._waiting = waiting
        self._errors: dict[int, list[float]] = {}
        self._falls: dict[int, list[float]] = {}
        self._shares: dict[int, float] = {}

    def of(self, trial: Standing) -> Prediction | None:
        """The best value of a trial by its end, at 80 %; of one that has ended, the value that it has.

        Returns:
            None where it is too early to say.
        """
        if trial.state == "ended":
            value = math.inf if trial.value is None else trial.value
            return Prediction(value, value, value)
        here = trial.curve[-1].tokens if trial.curve else 0
        own = _predicted(trial, here)
        if own is None or trial.value is None:
            return None
        own = _corrected(own, self._errors_at(here))
        falls = self._falls_since(here)
        if len(falls) < _MIN_FALLS:
            return own
        like_others = _like_others(trial.value, falls)
        return Prediction(
            min(own.low, like_others.low), min(own.middle, like_others.middle), max(own.high, like_others.high)
        )

    def like_those_ahead(self, trial: Standing) -> float:
        """Where a trial is expected to end whose own curve is too short: it comes as much closer to the best as others.

        Losses that are far apart after a few evaluations end close together: a curve that still stands high falls
        further. Of curves that fall to one asymptote as powers of the tokens, with one exponent, each keeps the same
        share of its distance from that asymptote, and the best end that is known or foreseen stands in for it.

        Returns:
            The best end, and above it the share of the trial's distance that those who went further keep of theirs;
            where nobody went further, the value that it has.
        """
        if trial.value is None:
            return math.inf
        share = self._share_kept(trial.curve[-1].tokens if trial.curve else 0)
        return min(trial.value, self._best_end + (trial.value - self._best_end) * share)

    def _share_kept(self, tokens: int) -> float:
        """Of the distance from the best end after so many tokens, what those who went further keep to the end."""
        if tokens not in self._shares:
            ahead = [(_best(t, tokens), p.middle) for t, p in self._foreseen if t.curve[-1].tokens > tokens]
            pairs = [(then - self._best_end, end - self._best_end) for then, end in ahead if math.isfinite(then)]
            distance = sum(then for then, _ in pairs)
            self._shares[tokens] = sum(end for _, end in pairs) / distance if distance > 0 else 1.0
        return self._shares[tokens]

    @cached_property
    def _best_end(self) -> float:
        return min((found.middle for _, found in self._foreseen), default=0.0)

    @cached_property
    def _foreseen(self) -> list[tuple[Standing, Prediction]]:
        """Everyone of whom something can be said."""
        return [(t, found) for t in (*self._ended, *self._waiting) if (found := self.of(t)) is not None]

    def _errors_at(self, tokens: int) -> list[float]:
        """How far above its extrapolation after so many tokens everyone ended who went further."""
        if tokens not in self._errors:
            then = [(end.value, _predicted(end, tokens)) for end in self._ended if end.curve[-1].tokens > tokens]
            self._errors[tokens] = [v - p.middle for v, p in then if v is not None and p is not None]
        return self._errors[tokens]

    def _falls_since(self, tokens: int) -> list[float]:
        """How far the best value of everyone who went further moved after so many tokens; 0 or less."""
        if tokens not in self._falls:
            then = [(end.value, _best(end, tokens)) for end in self._ended if end.curve[-1].tokens > tokens]
            self._falls[tokens] = [v - best for v, best in then if v is not None and math.isfinite(best)]
        return self._falls[tokens]


def _corrected(own: Prediction, errors: Sequence[float]) -> Prediction:
    """An extrapolation, corrected by how far off it was for others at the same point.

    Errors are normal, of unknown mean and spread. Before any is known, the mean is 0 with the weight of one error, and
    the spread what the extrapolation says of itself, with two degrees of freedom: the first to end are those that
    looked best, so their errors lie above those of others. The interval is that of the next error, Student-t (Gelman
    et al., Bayesian Data Analysis, section 3.3), and never narrower than the extrapolation's own.
    """
    if not errors:
        return own
    number, degrees = len(errors) + _PRIOR_ERRORS, len(errors) + _PRIOR_DEGREES
    mean = sum(errors) / number
    prior = _PRIOR_DEGREES * ((own.middle - own.low) / _NORMAL) ** 2
    squares = prior + sum(error**2 for error in errors) - number * mean**2
    half = _student(degrees) * math.sqrt(squares / degrees * (1 + 1 / number))
    low, middle, high = own.low + mean, own.middle + mean, own.high + mean
    return Prediction(min(low, middle - half), middle, max(high, middle + half))


def _like_others(value: float, falls: Sequence[float]) -> Prediction:
    """Falls from a value as far as others did; the interval is that of the next fall after theirs."""
    number, middle = len(falls), value + fmean(falls)
    half = _student(number - 1) * stdev(falls) * math.sqrt(1 + 1 / number)
    return Prediction(middle - half, middle, middle + half)


@lru_cache
def _student(degrees: int) -> float:
    return float(special.stdtrit(degrees, _UPPER))


def _best(trial: Standing, tokens: int) -> float:
    return min((p.value for p in trial.curve if p.tokens <= tokens and math.isfinite(p.value)), default=math.inf)


def _predicted(trial: Standing, tokens: int) -> Prediction | None:
    """The best of a trial by its end, as its curve said after so many tokens."""
    points = [point for point in trial.curve if point.tokens <= tokens]
    return _prediction(tuple(p.tokens for p in points), tuple(p.value for p in points), trial.max_tokens)


@lru_cache(maxsize=16_384)  # whoever waits is looked at in every round, and has the curve that it had
def _prediction(tokens: tuple[int, ...], values: tuple[float, ...], end: int) -> Prediction | None:
    return predict_best(tokens, values, end)
