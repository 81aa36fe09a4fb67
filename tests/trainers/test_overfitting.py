from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from record_examples import row

from crossover.trainers.config import StoppingConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.overfitting import (
    Divergence,
    FirstOf,
    Patience,
    Plateau,
    StopRule,
    ValidationRise,
    Verdict,
    best_index,
    build_rule,
)
from crossover.trainers.rows import Evaluation

DEFAULT = build_rule(StoppingConfig())


def history_of(
    losses: Sequence[float], *, se: float | Sequence[float] = 0.005, train: Sequence[float | None] | None = None
) -> list[Evaluation]:
    rows: list[Evaluation] = []
    best = math.inf
    for i, loss in enumerate(losses):
        best = min(best, loss)
        error = se if isinstance(se, float) else se[i]
        change = {"rise_over_best": loss - best, "rise_over_best_se": error if loss > best else 0.0}
        rows.append(row(i + 1, loss, best_val_loss=best, train_loss=train[i] if train else 1.0, **change))
    return rows


def first_stop(rule: StopRule, history: list[Evaluation]) -> tuple[int, Verdict] | None:
    """Number of evaluations at which a run that asks after each of them is stopped."""
    for count in range(1, len(history) + 1):
        verdict = rule.verdict(history[:count])
        if verdict.stop:
            return count, verdict
    return None


def test_overfitting_run_is_stopped_at_the_third_evaluation_that_lies_above_its_best() -> None:
    losses = [3.1, 2.6, 2.3, 2.12, 2.05, 2.045, 2.11, 2.25, 2.5, 3.0, 3.6]
    stopped = first_stop(DEFAULT, history_of(losses))
    assert stopped is not None
    count, verdict = stopped
    assert (count, verdict.reason, verdict.best) == (9, "overfit", 5)


def test_evidence_tells_the_rise_its_error_the_best_and_how_often() -> None:
    stopped = first_stop(DEFAULT, history_of([2.0, 2.1, 2.2, 2.3]))
    assert stopped is not None
    evidence = stopped[1].evidence
    for part in ("2.3000", "0.3000 ± 0.0050", "best, 2.0000 at epoch 0.1", "3 evaluations in a row of 3 needed"):
        assert part in evidence


def test_rise_below_the_minimum_does_not_count_however_certain() -> None:
    assert first_stop(DEFAULT, history_of([2.0] + [2.0099] * 10, se=1e-6)) is None
    assert first_stop(DEFAULT, history_of([2.0] + [2.0101] * 10, se=1e-6)) is not None


def test_rise_within_its_error_does_not_count_however_large() -> None:
    assert first_stop(DEFAULT, history_of([2.0] + [2.4] * 10, se=0.25)) is None


def test_rise_of_unknown_error_does_not_count() -> None:
    assert first_stop(DEFAULT, history_of([2.0] + [2.4] * 10, se=math.nan)) is None


def test_rise_that_ends_before_patience_does_starts_the_count_anew() -> None:
    assert first_stop(DEFAULT, history_of([2.0, 2.1, 2.1, 1.9, 2.0, 2.0, 1.8, 1.9, 1.9, 1.7])) is None
    assert first_stop(DEFAULT, history_of([2.0, 2.1, 2.1, 2.001, 2.1, 2.1, 2.0])) is None


def test_second_descent_after_a_bump_shorter_than_patience_is_reached() -> None:
    losses = [3.0, 2.5, 2.3, 2.35, 2.36, 2.2, 2.0, 1.9]
    assert first_stop(DEFAULT, history_of(losses)) is None
    assert DEFAULT.verdict(history_of(losses)).best == 7


def test_second_descent_after_a_longer_bump_is_given_up_unless_patience_is_longer() -> None:
    history = history_of([3.0, 2.5, 2.3, 2.35, 2.5, 2.6, 2.5, 2.4, 2.2, 2.0])
    assert first_stop(DEFAULT, history) is not None
    assert first_stop(build_rule(StoppingConfig(patience=6)), history) is None


def test_more_patience_stops_later_and_keeps_the_same_best() -> None:
    history = history_of([2.5, 2.0, *np.linspace(2.1, 3.5, 12)])
    stops = [first_stop(build_rule(StoppingConfig(patience=patience)), history) for patience in (1, 3, 5)]
    assert [stop[0] for stop in stops if stop] == [3, 5, 7]
    assert {stop[1].best for stop in stops if stop} == {1}


def curves(seed: int, count: int, true_losses: NDArray[np.float64], noise: float) -> list[list[Evaluation]]:
    """Runs of one true curve, each evaluation with its own independent error; the paired error is sqrt(2) of it."""
    rng = np.random.default_rng(seed)
    return [
        history_of((true_losses + rng.normal(0, noise, size=len(true_losses))).tolist(), se=noise * math.sqrt(2))
        for _ in range(count)
    ]


def share_stopped(rule: StopRule, runs: list[list[Evaluation]]) -> float:
    return sum(first_stop(rule, run) is not None for run in runs) / len(runs)


def test_noise_on_a_plateau_stops_as_rarely_as_is_stated() -> None:
    runs = curves(0, 300, np.full(40, 2.0), noise=0.05)
    assert share_stopped(DEFAULT, runs) <= 0.01  # stated: 0.2 %, so more than 3 of 300 come by chance once in 300


def test_without_taking_the_choice_of_the_best_into_account_a_quarter_would_be_stopped() -> None:
    class Uncorrected(ValidationRise):
        def verdict(self, history: Sequence[Evaluation]) -> Verdict:
            last = history[-1]
            risen = last.rise_over_best > self.z * last.rise_over_best_se
            return Verdict("overfit" if risen else None, "no correction", 0)

    runs = curves(0, 300, np.full(40, 2.0), noise=0.05)
    assert share_stopped(Patience(Uncorrected(0.01, 2.0), 3), runs) == pytest.approx(0.28, abs=0.09)


def test_slow_starter_is_never_stopped() -> None:
    flat_then_falling = np.concatenate([np.full(10, 3.2), 3.2 - 1.5 * (1 - np.exp(-np.arange(15) / 8))])
    assert share_stopped(DEFAULT, curves(1, 300, flat_then_falling, noise=0.0)) == 0
    assert share_stopped(DEFAULT, curves(1, 300, flat_then_falling, noise=0.02)) <= 0.01


def test_noisy_bound_that_falls_slower_than_its_noise_goes_on() -> None:
    assert share_stopped(DEFAULT, curves(2, 300, 3.0 - 0.01 * np.arange(30), noise=0.02)) == 0


def test_noisy_bound_that_overfits_is_stopped_near_where_it_does() -> None:
    true_losses = np.concatenate([np.linspace(3.0, 2.4, 12), 2.4 + 0.08 * np.arange(1, 9)])
    stops = [first_stop(DEFAULT, run) for run in curves(3, 200, true_losses, noise=0.02)]
    assert all(stop is not None and stop[1].reason == "overfit" for stop in stops)
    counts = [stop[0] for stop in stops if stop]
    assert np.mean([15 <= count <= 17 for count in counts]) > 0.98  # exactly known, it would be 15


def test_plateau_is_another_reason_and_off_by_default() -> None:
    history = history_of([2.0, 1.5] + [1.501] * 6)
    assert first_stop(DEFAULT, history) is None
    stopped = first_stop(build_rule(StoppingConfig(plateau_evaluations=4)), history)
    assert stopped is not None
    assert (stopped[0], stopped[1].reason, stopped[1].best) == (6, "plateau", 1)
    assert "4 evaluations without a new best since 1.5000" in stopped[1].evidence


def test_run_that_overfits_is_not_called_a_plateau_when_both_come_at_once() -> None:
    rule = build_rule(StoppingConfig(patience=3, plateau_evaluations=3))
    stopped = first_stop(rule, history_of([2.0, 2.1, 2.2, 2.3]))
    assert stopped is not None
    assert stopped[1].reason == "overfit"


def test_training_worse_than_at_its_beginning_twice_in_a_row_is_divergence() -> None:
    history = history_of([3.0, 2.5, 4.0, 4.2], train=[3.4, 2.4, 4.1, 4.3])
    stopped = first_stop(DEFAULT, history)
    assert stopped is not None
    assert (stopped[0], stopped[1].reason, stopped[1].best) == (4, "diverged", 1)
    assert "more than 0.5 above the 3.4000 of the first, 2 times in a row" in stopped[1].evidence


def test_one_spike_that_recovers_is_no_divergence() -> None:
    assert first_stop(DEFAULT, history_of([3.0, 2.5, 4.0, 2.4, 2.3], train=[3.4, 2.4, 5.0, 2.4, 2.2])) is None


def test_overfitting_above_the_first_validation_loss_is_not_taken_for_divergence() -> None:
    history = history_of([3.6, 3.2, 5.0, 7.0, 10.0], train=[4.0, 2.0, 0.5, 0.1, 0.01])
    assert first_stop(build_rule(StoppingConfig(rule="none")), history) is None
    stopped = first_stop(DEFAULT, history)
    assert stopped is not None
    assert stopped[1].reason == "overfit"


def test_missing_training_loss_is_no_divergence() -> None:
    assert first_stop(Divergence(), history_of([3.0, 2.5, 4.0, 4.2], train=[None, 9.0, 9.0, 9.0])) is None
    assert first_stop(Divergence(), history_of([3.0, 2.5, 4.0, 4.2], train=[3.0, 9.0, None, 9.0])) is None


def test_first_rule_in_order_gives_the_reason() -> None:
    history = history_of([2.0, 2.1, math.nan])
    assert FirstOf((Divergence(), Plateau(2))).verdict(history).reason == "diverged"
    assert FirstOf((Plateau(2), Divergence())).verdict(history).reason == "plateau"


def test_unknown_rule_is_refused_with_those_that_are_known() -> None:
    config = StoppingConfig.model_construct(rule="overfitt")
    with pytest.raises(ConfigError, match=r"stopping\.rule is overfitt, and the rules are none, overfit"):
        build_rule(config)


def gap_history(losses: Sequence[float], gaps: Sequence[float | None], se: float = 0.05) -> list[Evaluation]:
    """As `history_of`, with the gap of tasks."""
    rows, best = [], -math.inf
    for evaluation, gap in zip(history_of(losses), gaps, strict=True):
        if gap is None:
            rows.append(evaluation)
            continue
        fall = max(best - gap, 0.0) if math.isfinite(best) else 0.0
        best = max(best, gap)
        columns = {"task_gap": gap, "task_gap_fall": fall, "task_gap_fall_se": se if fall else 0.0}
        rows.append(evaluation.model_copy(update=columns))
    return rows


def test_a_gap_that_grows_while_the_loss_rises_goes_on_and_one_that_falls_stops() -> None:
    losses = [2.6, 2.3, 2.4, 2.6, 2.9, 3.3, 3.8, 4.4]
    rule = build_rule(StoppingConfig(rule="task_gap"))
    growing = gap_history(losses, [1.0, 1.5, 1.9, 2.2, 2.4, 2.5, 2.55, 2.6])
    assert first_stop(rule, growing) is None
    assert first_stop(DEFAULT, growing) is not None
    stopped = first_stop(rule, gap_history(losses, [1.0, 1.5, 1.9, 2.2, 2.0, 1.8, 1.5, 1.2]))
    assert stopped is not None
    count, verdict = stopped
    assert (count, verdict.reason) == (7, "overfit")
    assert "the gap of 1.5000 nats a question is 0.7000 ± 0.0500 below its best" in verdict.evidence


def test_without_tasks_a_gap_stops_nothing() -> None:
    assert first_stop(build_rule(StoppingConfig(rule="task_gap")), gap_history([2.0, 3.0, 4.0], [None] * 3)) is None


def test_the_best_by_the_gap_is_another_than_by_the_loss() -> None:
    history = gap_history([2.6, 2.3, 2.4, 2.6], [1.0, 1.5, 1.9, 1.7])
    assert best_index(history) == 1
    assert best_index([row.model_copy(update={"decision_metric": "task_gap"}) for row in history]) == 2
