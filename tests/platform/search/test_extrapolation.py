"""Prediction intervals of falling curves: calibrated on laws that are known, cautious on those that are not."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from crossover.platform.search.schedulers.extrapolation import MIN_POINTS, predict_best

GRID = [1_000 * 1.25**i for i in range(18)]


@pytest.mark.parametrize("noise", [0.0003, 0.001, 0.004, 0.01])
def test_interval_holds_the_truth_as_often_as_it_says(noise: float) -> None:
    draw, held, below = np.random.default_rng(0), 0, 0
    for _ in range(300):
        tokens = np.array(GRID[: draw.integers(6, 18)])
        floor, size, exponent = draw.uniform(0.5, 2), draw.uniform(0.3, 3), draw.uniform(0.1, 1)
        values = floor + size * (tokens / 1_000) ** -exponent + draw.normal(0, noise, len(tokens))
        end = tokens[-1] * draw.choice([3, 9, 27])
        truth = floor + size * (end / 1_000) ** -exponent
        prediction = predict_best(tokens, values, end)
        assert prediction is not None
        held += prediction.low <= truth <= prediction.high
        below += prediction.low <= truth
    # 80 % and 90 %; with 300 draws four standard errors are 0.09 and 0.07. More than that is caution, and no fault.
    assert held / 300 > 0.80 - 0.09
    assert below / 300 > 0.90 - 0.07


def test_middle_agrees_with_a_nonlinear_least_squares_fit() -> None:
    tokens = np.array(GRID[:12])
    noise = np.random.default_rng(1).normal(0, 1e-4, 12)
    values = 1.3 + 1.5 * (tokens / tokens[-1]) ** -0.4 + noise
    (a, b, c), _ = curve_fit(lambda t, a, b, c: a + b * t**-c, tokens / tokens[-1], values, p0=(1, 1, 0.5))
    prediction = predict_best(tokens, values, 9 * tokens[-1])
    assert prediction is not None
    assert prediction.middle == pytest.approx(a + b * 9.0**-c, abs=0.005)


def test_fewer_than_five_points_on_the_falling_part_say_nothing() -> None:
    assert predict_best([], [], 1e6) is None
    assert predict_best(GRID[: MIN_POINTS - 1], [4.0, 3.0, 2.5, 2.2], 1e6) is None
    assert predict_best(GRID[:6], [2.0, 5.0, 4.0, 3.0, 2.5, 1.9], 1e6) is not None
    assert predict_best(GRID[:6], [2.0, 2.1, 5.0, 4.0, 3.0, 1.9], 1e6) is None


def test_curve_that_has_turned_is_expected_to_keep_its_best_and_may_fall_again() -> None:
    values = [4, 3, 2.5, 2.2, 2.0, 1.9]
    falling, turned = predict_best(GRID[:6], values, 1e6), predict_best(GRID[:8], [*values, 2.0, 2.1], 1e6)
    assert falling is not None
    assert turned is not None
    assert (turned.middle, turned.high) == (1.9, 1.9)
    assert turned.low == pytest.approx(falling.low)
    assert turned.low < 1.9


def test_curve_that_turned_at_once_keeps_its_best() -> None:
    prediction = predict_best(GRID[:5], [4, 3, 2.5, 2.6, 2.7], 1e6)
    assert prediction is not None
    assert (prediction.low, prediction.high) == (2.5, 2.5)


def test_nothing_is_left_to_come_at_the_end() -> None:
    prediction = predict_best(GRID[:6], [4, 3, 2.5, 2.2, 2.0, 1.9], GRID[5])
    assert prediction is not None
    assert (prediction.low, prediction.middle, prediction.high) == (1.9, 1.9, 1.9)


def test_values_that_are_not_finite_are_left_out() -> None:
    clean = predict_best(GRID[:6], [4, 3, 2.5, 2.2, 2.0, 1.9], 1e6)
    dirty = predict_best(GRID[:8], [4, 3, math.nan, 2.2, 2.0, 1.9, math.inf, math.nan], 1e6)
    assert clean is not None
    assert dirty is not None
    assert dirty.high <= 1.9


@given(st.lists(st.floats(0.01, 20), min_size=0, max_size=25), st.floats(1, 1e3))
@settings(max_examples=100, deadline=None)
def test_any_curve_gives_an_ordered_interval_below_its_best_or_none(values: list[float], factor: float) -> None:
    tokens = [1_000 * 1.25**i for i in range(len(values))]
    prediction = predict_best(tokens, values, 1_000 * 1.25 ** len(values) * factor)
    if prediction is not None:
        assert 0 <= prediction.low <= prediction.middle <= prediction.high <= min(values)
        assert prediction == predict_best(tokens, values, 1_000 * 1.25 ** len(values) * factor)


def test_a_curve_takes_less_than_5_ms() -> None:
    values = [1.2 + 2 * (t / 1_000) ** -0.3 for t in GRID]
    seconds = []
    for _ in range(20):
        begin = time.process_time()
        predict_best(GRID, values, 27 * GRID[-1])
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.005
