"""What a waiting trial may come to: its own curve corrected by the errors of others, and the falls of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from crossover.platform.search.schedulers import CurvePoint, Standing
from crossover.platform.search.schedulers.extrapolation import predict_best
from crossover.platform.search.schedulers.forecasts import Forecaster

END = 27_000
GRID = [*(round(500 * 1.25**i) for i in range(18)), END]
HERE = max(tokens for tokens in GRID if tokens <= END / 9)

Shape = Callable[[float], float]


def trial(number: int, shape: Shape, until: int = END, **changes: object) -> Standing:
    """One that waits where it is, or has ended."""
    points = [CurvePoint(t, shape(t), 6.0 * t) for t in GRID if t <= until]
    known: dict[str, object] = {
        "state": "ended" if until == END else "paused",
        "value": min(point.value for point in points),
        "max_tokens": END,
        "curve": points,
    }
    return Standing(f"t{number}", "s", number, 0, f"{number:03d}", **{**known, **changes})  # type: ignore[arg-type]


def falling(floor: float, size: float = 2.0, exponent: float = 0.5) -> Shape:
    return lambda t: floor + size * (t / GRID[0]) ** -exponent


def alone(waiting: Standing) -> tuple[float, float, float]:
    """By its own curve."""
    own = predict_best([p.tokens for p in waiting.curve], [p.value for p in waiting.curve], END)
    assert own is not None
    return own.low, own.middle, own.high


def errors_of(ended: Sequence[Standing]) -> list[float]:
    """Of their extrapolations where the others wait."""
    errors = []
    for end in ended:
        points = [p for p in end.curve if p.tokens <= HERE]
        own = predict_best([p.tokens for p in points], [p.value for p in points], END)
        assert own is not None
        assert end.value is not None
        errors.append(end.value - own.middle)
    return errors


def annealed(floor: float, depth: float) -> Shape:
    """Falls at the end by what nothing before tells."""
    return lambda t: falling(floor)(t) - depth * max(0.0, (t - 0.8 * END) / (0.2 * END))


def test_ended_trial_is_what_it_is_and_a_young_one_says_nothing() -> None:
    forecaster = Forecaster([])
    done = forecaster.of(trial(0, falling(1.0)))
    assert done is not None
    assert done.low == done.middle == done.high == trial(0, falling(1.0)).value
    assert forecaster.of(trial(1, falling(1.0), until=GRID[3])) is None
    assert forecaster.of(trial(1, falling(1.0), until=HERE, curve=())) is None
    failed = forecaster.of(trial(2, falling(1.0), value=None))
    assert failed is not None
    assert math.isinf(failed.middle)


def test_with_nobody_to_learn_from_it_is_the_extrapolation() -> None:
    waiting = trial(0, falling(1.0), until=HERE)
    for ended in ([], [trial(1, falling(1.0), value=None)], [trial(1, falling(1.0), curve=())]):
        prediction = Forecaster(ended).of(waiting)
        assert prediction is not None
        assert (prediction.low, prediction.middle, prediction.high) == alone(waiting)


@pytest.mark.parametrize("number", [1, 2])
def test_correction_is_the_quantile_of_the_posterior_predictive(number: int) -> None:
    """Integrated on a grid of mean and spread: prior x likelihood, predictive distribution by summation."""
    draw = np.random.default_rng(number)
    wobble = draw.normal(0, 0.002, len(GRID)).tolist()
    waiting = trial(0, lambda t: falling(1.0)(t) + wobble[GRID.index(round(t))], until=HERE)
    ended = [trial(1 + i, annealed(1.0 + 0.1 * i, 0.1 + 0.05 * i)) for i in range(number)]
    errors, (low, middle, _) = errors_of(ended), alone(waiting)
    scale = (middle - low) / stats.norm.ppf(0.9)
    # variance ~ scaled inverse chi-squared(2, scale^2), mean given it ~ normal(0, variance / 1)
    spread = np.geomspace(scale / 30, 300 * (scale + max(map(abs, errors))), 1_500)
    log_prior = stats.invgamma.logpdf(spread**2, a=1, scale=scale**2) + np.log(2 * spread)
    means = np.array([sum(errors) / (number + 1)])[:, None] + np.linspace(-6, 6, 601)[:, None] * spread[None, :]
    log_density = log_prior + stats.norm.logpdf(means, 0, spread) + np.log(spread**2)  # d mean is spread, d spread too
    for error in errors:
        log_density = log_density + stats.norm.logpdf(error, means, spread)
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()

    def below(value: float) -> float:
        return float((weight * stats.norm.cdf(value, means, spread)).sum())

    prediction = Forecaster(ended).of(waiting)
    assert prediction is not None
    assert prediction.middle == pytest.approx(middle + sum(errors) / (number + 1))
    assert prediction.middle - prediction.low > middle - low
    assert below(prediction.low - middle) == pytest.approx(0.1, abs=0.002)
    assert below(prediction.high - middle) == pytest.approx(0.9, abs=0.002)


def test_an_anneal_that_everyone_has_is_expected_of_the_next_one_too() -> None:
    ended = [trial(i, annealed(1.0 + 0.02 * i, 0.1)) for i in range(40)]
    waiting, truth = trial(99, annealed(1.1, 0.1), until=HERE), annealed(1.1, 0.1)(END)
    prediction = Forecaster(ended).of(waiting)
    assert prediction is not None
    assert abs(alone(waiting)[1] - truth) > 0.09
    assert prediction.middle == pytest.approx(truth, abs=0.01)
    assert prediction.low <= truth + 0.01


def test_bump_hides_nobody_who_stands_where_the_others_stood() -> None:
    """Its own curve, bent by the bump, leads nowhere; the others fell further from there."""
    ended = [trial(i, falling(1.0 + 0.002 * i)) for i in range(6)]

    def bumped(t: float) -> float:
        return falling(0.98)(t) + 0.15 * math.exp(-0.5 * (math.log(t / HERE) / 0.5) ** 2)

    waiting = trial(99, bumped, until=HERE)
    truth, cut = bumped(END), min(end.value for end in ended if end.value is not None)
    assert truth < cut
    assert alone(waiting)[0] > 1.02 * cut
    prediction = Forecaster(ended).of(waiting)
    assert prediction is not None
    assert prediction.low < alone(waiting)[0]
    two = Forecaster(ended[:2]).of(waiting)
    assert two is not None
    assert prediction.middle < two.middle  # two are no rule


def test_falls_of_others_give_the_interval_of_the_next_one() -> None:
    """A curve that went up at once has no extrapolation but its best; what others did since is all there is."""
    falls = [-0.30, -0.26, -0.35, -0.28, -0.31]

    def step(fall: float) -> Shape:
        return lambda t: 2.0 if t <= HERE else 2.0 + fall

    ended = [trial(i, step(fall)) for i, fall in enumerate(falls)]
    waiting = trial(99, lambda t: 2.0, until=HERE, value=2.0)
    prediction = Forecaster(ended).of(waiting)
    assert prediction is not None
    low, high = stats.t.interval(
        0.8, len(falls) - 1, loc=2 + np.mean(falls), scale=np.std(falls, ddof=1) * math.sqrt(1 + 1 / len(falls))
    )
    assert prediction.low <= low
    assert prediction.high >= high
    assert prediction.middle <= 2 + np.mean(falls) + 1e-12


def test_short_curve_is_expected_to_come_closer_to_the_best_as_those_that_went_further() -> None:
    young = trial(0, falling(2.0), until=GRID[3])
    ended, waits = trial(1, annealed(1.0, 0.1)), trial(2, falling(1.2, exponent=0.3), until=HERE)
    assert Forecaster([ended], [young, waits]).of(young) is None
    found = Forecaster([ended], [young, waits]).like_those_ahead(young)

    ahead = Forecaster([ended]).of(waits)
    assert ahead is not None
    assert ended.value is not None
    assert young.value is not None
    best = min(ended.value, ahead.middle)
    then, end = [ended.curve[3].value, waits.curve[3].value], [ended.value, ahead.middle]
    assert found == pytest.approx(best + (young.value - best) * (np.mean(end) - best) / (np.mean(then) - best))


def test_short_curve_of_the_same_asymptote_and_exponent_ends_where_it_is_said() -> None:
    first, second, third = (trial(number, falling(1.0, size)) for number, size in enumerate((1.0, 1.3, 3.0)))
    at_the_asymptote = trial(3, lambda _: 1.0)
    young = trial(2, falling(1.0, 3.0), until=GRID[3])
    found = Forecaster([first, second, at_the_asymptote]).like_those_ahead(young)
    assert third.value is not None
    assert young.value is not None
    assert young.value - third.value > 1
    assert found == pytest.approx(third.value)


def test_short_curve_with_nobody_further_is_expected_to_stay_where_it_is() -> None:
    young = trial(0, falling(2.0), until=GRID[3])
    assert young.value is not None
    for waiting in ([], [young], [young, trial(1, falling(1.0), until=GRID[3])]):
        assert Forecaster([], waiting).like_those_ahead(young) == young.value
    nothing = Forecaster([], []).like_those_ahead(trial(2, falling(2.0), until=GRID[3], value=None))
    assert math.isinf(nothing)
