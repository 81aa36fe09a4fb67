"""`plan_from_laws`: for U unique tokens and C FLOPs the best objective, size and epochs, and what that rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.published_laws import ThresholdLaw
from crossover.platform.analysis.recommendation.forecasts import STATED_FACTOR, Forecast
from crossover.platform.analysis.recommendation.results import Choice, NextTrial, Plan, PlanError
from crossover.platform.analysis.recommendation.trials import narrowing_trials

__all__ = ["plan_from_laws"]

Floats = NDArray[np.float64]

_SCAN = np.geomspace(1e-2, 1e2, 33)
_CHALLENGER = "masked_diffusion"
_UNSURE = 3.0  # a published C_crit says nothing sure within this factor


@dataclass(frozen=True)
class _Ranked:
    forecast: Forecast
    choice: Choice


def plan_from_laws(
    forecasts: Sequence[Forecast],
    unique_tokens: float,
    flops: float,
    *,
    threshold: ThresholdLaw | None = None,
    seed: int = 0,
) -> Plan:
    """Plan from laws.

    Args:
        forecasts: the families; where they come from several sources, their losses are not comparable.
        unique_tokens: U.
        flops: C, the most that may be spent.
        threshold: says which objective is ahead where losses are not comparable.
        seed: of the noise in intervals.

    Raises:
        PlanError: there is nothing to choose from, or nothing that says which of two sources is ahead.
    """
    if not forecasts:
        raise PlanError("there is no law to plan with: name a study, a law file or a published law")
    ranked = [_Ranked(f, f.choice(unique_tokens, *f.best(unique_tokens, flops), seed=seed)) for f in forecasts]
    if len({forecast.source for forecast in forecasts}) > 1:
        return _across_sources(ranked, unique_tokens, flops, threshold)
    ranked.sort(key=lambda item: item.choice.loss)
    best = ranked[0]
    second = ranked[1] if len(ranked) > 1 else None
    probability, decided = _ahead(best, second, unique_tokens)
    return Plan(
        unique_tokens=unique_tokens,
        flops=flops,
        best=best.choice,
        runner_up=None if second is None else second.choice,
        probability_best=probability,
        decided_by=decided,
        changes=_changes(forecasts, unique_tokens, flops),
        next_trials=_next_trials(forecasts, best, second, unique_tokens, flops),
        warnings=_warnings([item for item in (best, second) if item is not None]),
    )


def _ahead(best: _Ranked, second: _Ranked | None, unique_tokens: float) -> tuple[float | None, str]:
    if second is None:
        return None, f"it is the only one that {best.choice.source} knows"
    gap_B = _gap(best, second, unique_tokens)
    difference = second.choice.loss - best.choice.loss
    words = f"its predicted loss is {difference:.4f} nats lower than that of {second.forecast.family.name}"
    if len(gap_B) < 2:
        return None, f"{words}; the law file has no draws, so how sure that is is not known"
    share = float((gap_B < 0).mean())
    return share, f"{words}, in {100 * share:.0f} % of the draws"


def _gap(best: _Ranked, second: _Ranked, unique_tokens: float) -> Floats:
    """ln loss of the best less that of the runner-up, in every draw of the laws."""
    logs = [
        item.forecast.log_losses(*(np.array([v]) for v in (item.choice.params, item.choice.tokens, unique_tokens)))
        for item in (best, second)
    ]
    if len(logs[0]) != len(logs[1]):
        return np.empty(0)
    found: Floats = (logs[0] - logs[1])[1:, 0]
    return found


def _across_sources(ranked: list[_Ranked], unique_tokens: float, flops: float, threshold: ThresholdLaw | None) -> Plan:
    """Two papers' losses are on two corpora: a law of C_crit decides."""
    if threshold is None:
        sources = ", ".join(dict.fromkeys(item.choice.source for item in ranked))
        raise PlanError(
            f"losses of {sources} are on different data and cannot be compared: name a law of C_crit as well, such as "
            "prabhudesai-2025, or one source that has both objectives"
        )
    critical = threshold.flops(unique_tokens)
    ahead = flops > critical
    ranked.sort(key=lambda item: ((item.choice.objective == _CHALLENGER) != ahead, item.choice.loss))
    best = ranked[0]
    second = next((item for item in ranked[1:] if item.choice.objective != best.choice.objective), None)
    side, other = ("above", "below") if ahead else ("below", "above")
    warnings = list(_warnings([item for item in (best, second) if item is not None]))
    if 1 / _UNSURE < flops / critical < _UNSURE:
        warnings.append(f"C is within a factor of {_UNSURE:g} of C_crit: both objectives are about as good")
    low, high = threshold.range.get("U", (0.0, np.inf))
    if not low <= unique_tokens <= high:
        warnings.append(
            f"C_crit was measured for U from {low:.3g} to {high:.3g} tokens: at {unique_tokens:.3g} it is extrapolated"
        )
    warnings.append("losses of the two objectives come from different papers and data: do not compare them")
    return Plan(
        unique_tokens=unique_tokens,
        flops=flops,
        best=best.choice,
        runner_up=None if second is None else second.choice,
        probability_best=None,
        decided_by=f"C = {flops:.3g} is {side} C_crit = {critical:.3g} FLOPs of {threshold.source.partition(':')[0]}",
        changes=(
            f"C {other} {critical:.3g} FLOPs at these unique tokens",
            f"U {'above' if ahead else 'below'} {(flops / threshold.threshold.c) ** (1 / threshold.threshold.p):.3g} "
            "tokens with these FLOPs",
        ),
        next_trials=(),
        warnings=tuple(warnings),
    )


def _changes(forecasts: Sequence[Forecast], unique_tokens: float, flops: float) -> tuple[str, ...]:
    """Where another family is ahead, along C and along U; for one family, how its best moves with C."""
    if len(forecasts) == 1:
        found = []
        for factor in (0.1, 10.0):
            params, tokens = forecasts[0].best(unique_tokens, flops * factor)
            found.append(
                f"with C = {flops * factor:.3g} FLOPs: N = {params:.3g} and {tokens / unique_tokens:.3g} epochs"
            )
        return tuple(found)
    return (
        *_flips(forecasts, _SCAN, lambda factor: (unique_tokens, flops * factor), f"C = {flops:.3g} FLOPs", flops, "C"),
        *_flips(
            forecasts, _SCAN, lambda factor: (unique_tokens * factor, flops), f"U = {unique_tokens:.3g}",
            unique_tokens, "U",
        ),
    )  # fmt: skip


def _flips(
    forecasts: Sequence[Forecast],
    factors: Floats,
    budget: Callable[[float], tuple[float, float]],
    here: str,
    value: float,
    name: str,
) -> list[str]:
    """The nearest place on either side where another family has the lowest loss."""
    leaders = [_leader(forecasts, *budget(float(factor))) for factor in factors]
    middle = len(factors) // 2
    found = []
    for side, places in (("below", range(middle - 1, -1, -1)), ("above", range(middle + 1, len(factors)))):
        flip = next((i for i in places if leaders[i] != leaders[middle]), None)
        if flip is not None:
            near = value * float(np.sqrt(factors[flip] * factors[flip + (1 if side == "below" else -1)]))
            found.append(f"{name} {side} about {near:.2g}: {leaders[flip]} is ahead (here {here})")
    if not found:
        found.append(f"nothing between a hundredth and a hundred times {here} changes who is ahead")
    return found


def _leader(forecasts: Sequence[Forecast], unique_tokens: float, flops: float) -> str:
    losses = {}
    for forecast in forecasts:
        params, tokens = forecast.best(unique_tokens, flops)
        points = (np.array([value]) for value in (params, tokens, unique_tokens))
        losses[forecast.family.name] = float(forecast.log_losses(*points)[0, 0])
    return min(losses, key=lambda name: losses[name])


def _next_trials(
    forecasts: Sequence[Forecast], best: _Ranked, second: _Ranked | None, unique_tokens: float, flops: float
) -> tuple[NextTrial, ...]:
    if second is not None:
        words = f"which of {best.forecast.family.name} and {second.forecast.family.name} is ahead, and by how much"
        return narrowing_trials(forecasts, _gap(best, second, unique_tokens), words, unique_tokens, flops)
    points = (np.array([v]) for v in (best.choice.params, best.choice.tokens, unique_tokens))
    question_B = best.forecast.log_losses(*points)[1:, 0]
    return narrowing_trials(forecasts, question_B, "the predicted loss", unique_tokens, flops)


def _warnings(ranked: Sequence[_Ranked]) -> tuple[str, ...]:
    found = []
    for item in ranked:
        choice, forecast = item.choice, item.forecast
        if choice.beyond > STATED_FACTOR:
            found.append(
                f"{forecast.family.name}: {choice.beyond:.3g} times beyond what {choice.source} measured, more than "
                f"{STATED_FACTOR:g}: its interval is {choice.widened:.2g} times as wide, and may be wrong altogether"
            )
        if len(forecast.family.theta_BP) == 1:
            found.append(f"{choice.source} has no draws: intervals hold the noise of a run, not the law's own error")
        if not forecast.family.law.uses_repeats:
            found.append(
                f"{forecast.family.name}: the {forecast.family.law.name} law knows no repeats: one epoch at most"
            )
    return tuple(dict.fromkeys(found))
