"""A plan from what a study measured, where it has too few sizes for a law: its best configuration within the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from crossover.platform.analysis.comparisons import clustered_mean, mean_difference
from crossover.platform.analysis.losses import DocumentLosses, same_windows
from crossover.platform.analysis.recommendation.forecasts import LEVEL
from crossover.platform.analysis.recommendation.results import Choice, NextTrial, Plan, PlanError
from crossover.platform.analysis.scaling_laws.reading import IN_SIZE_AND_TOKENS
from crossover.platform.analysis.selection import Candidate, Stratum, pairs_of_strata
from crossover.platform.analysis.tables import StudyTables, TrialFiles
from crossover.trainers.rows import Evaluation

__all__ = ["plan_from_measurements"]

_SAME = 0.01  # of unique tokens


@dataclass(frozen=True)
class _Measured:
    """One candidate within the budget.

    Args:
        losses: of each seed at its best evaluation within the budget.
        se: standard error of their mean: seeds and windows.
        rows: the evaluation of each repeat (seed).
    """

    stratum: Stratum
    candidate: Candidate
    choice: Choice
    losses: tuple[float, ...]
    se: float
    rows: dict[int, tuple[TrialFiles, Evaluation]]

    @property
    def name(self) -> str:
        """Objective and setting."""
        return ", ".join(part for part in (self.choice.objective, self.choice.setting) if part)


def plan_from_measurements(tables: StudyTables, unique_tokens: float, flops: float, reason: str) -> Plan:
    """The best measured configuration.

    Args:
        tables: the study.
        unique_tokens: U; the study must have trials with it.
        flops: C, the most a trial may have spent.
        reason: why no law was fitted.

    Raises:
        PlanError: no trial has these unique tokens, or none has an evaluation within the budget.
    """
    found = [
        _within(stratum, flops, tables.study.name)
        for _, strata in pairs_of_strata(tables)
        for stratum in strata.values()
        if stratum.chosen is not None and _has_unique(stratum.chosen, unique_tokens)
    ]
    if not found:
        known = sorted({int(u) for u in tables.trials["unique_tokens"].to_pylist() if u is not None})
        raise PlanError(
            f"{tables.path} has no trial with {unique_tokens:.6g} unique tokens, and no law to go there ({reason}): "
            f"set --unique-tokens to one of {', '.join(f'{u:,}' for u in known)}"
        )
    ranked = sorted((item for item in found if item is not None), key=lambda item: item.choice.loss)
    if not ranked:
        raise PlanError(f"{tables.path} has no evaluation within {flops:.3g} FLOPs: set --flops higher")
    best = ranked[0]
    second = next((r for r in ranked[1:] if r.choice.objective != best.choice.objective), None)
    second = second or (ranked[1] if len(ranked) > 1 else None)
    probability = None if second is None else _probability(best, second)
    return Plan(
        unique_tokens=unique_tokens,
        flops=flops,
        best=best.choice,
        runner_up=None if second is None else second.choice,
        probability_best=probability,
        decided_by=_decided(best, second, probability),
        changes=_changes(best, second),
        next_trials=_more_seeds(best, second, unique_tokens),
        warnings=(
            f"no law was fitted, so only what was measured can be recommended: {reason}",
            *_one_seed([best, second]),
        ),
    )


def _one_seed(sides: Sequence[_Measured | None]) -> list[str]:
    alone = [side for side in sides if side is not None and len(side.losses) == 1]
    return [f"{side.name} was run with one seed: what another would give is not known" for side in alone]


def _has_unique(candidate: Candidate, unique_tokens: float) -> bool:
    facts = candidate.trials[0].facts
    return facts is not None and abs(facts.unique_tokens / unique_tokens - 1) <= _SAME


def _within(stratum: Stratum, flops: float, source: str) -> _Measured | None:
    assert stratum.chosen is not None
    by_repeat = {
        repeat: (trial, row)
        for repeat, trial in stratum.chosen.by_repeat().items()
        if (row := _best_row(trial, flops)) is not None
    }
    rows = [row for _, row in by_repeat.values()]
    facts = stratum.chosen.trials[0].facts
    if not rows or facts is None:
        return None
    losses = tuple(row.val_loss for row in rows)
    mean = float(np.mean(losses))
    windows = float(np.mean([row.val_loss_se for row in rows]))
    of_seeds = float(np.var(losses, ddof=1)) / len(losses) if len(losses) > 1 else 0.0
    se = math.sqrt(of_seeds + windows**2)
    spread = math.sqrt(of_seeds * len(losses) + of_seeds + windows**2)  # of one more run
    half = float(stdtrit(max(len(losses) - 1, 1), 0.5 + LEVEL / 2)) * spread
    epochs = float(np.median([row.epoch for row in rows]))
    tokens = epochs * facts.unique_tokens
    choice = Choice(
        objective=stratum.objective,
        setting=", ".join(f"{p}={value}" for p, value in stratum.setting.items() if p not in IN_SIZE_AND_TOKENS),
        params=float(facts.num_params_active),
        epochs=epochs,
        tokens=tokens,
        flops=float(np.mean([row.train_flops for row in rows])),
        sparsity=facts.num_params_total / facts.num_params_active,
        loss=mean,
        low=mean - half,
        high=mean + half,
        level=LEVEL,
        beyond=1.0,
        widened=1.0,
        basis="measured",
        source=source,
        config_hash=stratum.chosen.config_hash,
    )
    return _Measured(stratum, stratum.chosen, choice, losses, se, by_repeat)


def _best_row(trial: TrialFiles, flops: float) -> Evaluation | None:
    rows = [r for r in trial.evaluations if r.decides and math.isfinite(r.val_loss) and r.train_flops <= flops]
    return min(rows, key=lambda row: row.val_loss, default=None)


def _difference(best: _Measured, second: _Measured) -> tuple[float, float]:
    """Standard error of the difference, and degrees of freedom: paired by seed and document where both have them."""
    repeats = sorted(best.rows.keys() & second.rows.keys())
    losses = [[_documents(*side.rows[repeat]) for repeat in repeats] for side in (best, second)]
    if len(repeats) > 1 and same_windows([*losses[0], *losses[1]]):
        bits = mean_difference(losses[0], losses[1])
        nats_per_bit = abs(best.choice.loss / _mean_bits(losses[0]))
        return bits.se * nats_per_bit, float(len(repeats) - 1)
    return math.hypot(best.se, second.se), float(max(min(len(best.losses), len(second.losses)) - 1, 1))


def _mean_bits(losses: Sequence[DocumentLosses]) -> float:
    """Mean over seeds of bits per byte."""
    return float(np.mean([clustered_mean(one.nats_DE[:, 0], one.bytes_D)[0] for one in losses]))


def _documents(trial: TrialFiles, row: Evaluation) -> DocumentLosses:
    facts = trial.record.window_facts("validation")
    return DocumentLosses.of(facts, [trial.record.window_nats(row.step)])


def _probability(best: _Measured, second: _Measured) -> float:
    """That the mean of the best is the lower one, by Student's t."""
    error, degrees = _difference(best, second)
    return float(stdtr(degrees, (second.choice.loss - best.choice.loss) / max(error, 1e-12)))


def _decided(best: _Measured, second: _Measured | None, probability: float | None) -> str:
    if second is None or probability is None:
        return "it is the only one with an evaluation within the budget"
    difference = second.choice.loss - best.choice.loss
    return (
        f"its validation loss is {difference:.4f} nats lower than that of {second.name} (probability "
        f"{100 * probability:.0f} %)"
    )


def _changes(best: _Measured, second: _Measured | None) -> tuple[str, ...]:
    if second is None:
        return ("a stratum of another objective or size",)
    gap = second.choice.loss - best.choice.loss
    error, _ = _difference(best, second)
    return (
        f"{gap:.4f} nats in favour of {second.name}: {gap / max(error, 1e-12):.1f} standard errors of the difference",
        "other sizes: with three or more, a law says what lies between and beyond them",
    )


def _more_seeds(best: _Measured, second: _Measured | None, unique_tokens: float) -> tuple[NextTrial, ...]:
    """One more seed of either: what it takes from the error of the difference."""
    sides = [item for item in (best, second) if item is not None]
    variances = [item.se**2 for item in sides]
    found = []
    for item, variance in zip(sides, variances, strict=True):
        num = len(item.losses)
        left = sum(variances) - variance + variance * num / (num + 1)
        narrows = 1 - math.sqrt(left / max(sum(variances), 1e-300))
        found.append(
            NextTrial(
                objective=item.name,
                params=item.choice.params,
                epochs=item.choice.epochs,
                unique_tokens=unique_tokens,
                flops=item.choice.flops,
                narrows=narrows,
                narrows_per_flop=narrows / item.choice.flops,
                question="one more seed: which of the two is ahead",
            )
        )
    return tuple(sorted(found, key=lambda trial: -trial.narrows_per_flop))
