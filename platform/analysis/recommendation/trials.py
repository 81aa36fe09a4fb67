"""Which trial would narrow the answer most for its FLOPs.

The question is a number of every bootstrap draw (a loss, or the difference of two). A trial's loss is another, plus the
noise of a run. Of two numbers that are jointly normal, knowing one shortens the interval of the other by
`1 - sqrt(1 - rho^2)`, rho their correlation: no law has to be fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.recommendation.forecasts import Forecast
from crossover.platform.analysis.recommendation.results import NextTrial

__all__ = ["narrowing_trials"]

Floats = NDArray[np.float64]

_NUM_SIZES, _NUM_EPOCHS = 5, 6
_MOST_OF_BUDGET = 0.25
_LEAST_GAIN = 0.02
_MIN_DRAWS = 20


def narrowing_trials(
    forecasts: Sequence[Forecast],
    question_B: Floats,
    words: str,
    unique_tokens: float,
    flops: float,
    *,
    num: int = 3,
) -> tuple[NextTrial, ...]:
    """The best trials of each family for the question, at most a quarter of the budget each.

    Args:
        forecasts: families whose draws belong together.
        question_B: the question in every draw, the optimum left out.
        words: the question in words.
        unique_tokens: U of the plan; trials use it, or a quarter of it.
        flops: the plan's budget.
        num: how many.
    """
    if len(question_B) < _MIN_DRAWS or question_B.std() == 0:
        return ()
    trials = [
        trial for forecast in forecasts for trial in _of_family(forecast, question_B, words, unique_tokens, flops)
    ]
    useful = sorted((t for t in trials if t.narrows >= _LEAST_GAIN), key=lambda t: -t.narrows_per_flop)
    return tuple(useful[:num])


def _of_family(
    forecast: Forecast, question_B: Floats, words: str, unique_tokens: float, flops: float
) -> list[NextTrial]:
    low, high = forecast.span["N"]
    params, epochs, unique = (
        grid.ravel()
        for grid in np.meshgrid(
            np.geomspace(low, high * 2, _NUM_SIZES),
            np.geomspace(1.0, 256.0, _NUM_EPOCHS),
            [unique_tokens / 4, unique_tokens],
            indexing="ij",
        )
    )
    cost = 6 * params * epochs * unique
    affordable = cost <= _MOST_OF_BUDGET * flops
    if not affordable.any():
        return []
    params, epochs, unique, cost = (values[affordable] for values in (params, epochs, unique, cost))
    log_BR = forecast.log_losses(params, epochs * unique, unique)[1:]
    centred = log_BR - log_BR.mean(axis=0)
    asked = question_B - question_B.mean()
    covariance = (centred * asked[:, None]).mean(axis=0)
    share = covariance**2 / ((centred.var(axis=0) + forecast.noise**2) * asked.var())
    narrows = 1 - np.sqrt(1 - np.minimum(share, 1.0))
    order = np.argsort(-np.where(narrows >= _LEAST_GAIN, narrows / cost, 0.0), kind="stable")
    return [
        NextTrial(
            objective=forecast.family.name,
            params=float(params[i]),
            epochs=float(epochs[i]),
            unique_tokens=float(unique[i]),
            flops=float(cost[i]),
            narrows=float(narrows[i]),
            narrows_per_flop=float(narrows[i] / cost[i]),
            question=words,
        )
        for i in order[:3]
    ]
