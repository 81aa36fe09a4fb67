"""What every stop rule must hold to: list a new rule in RULES, and it is held to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.trainers import overfitting
from crossover.trainers.config import StoppingConfig
from crossover.trainers.overfitting import (
    Divergence,
    FirstOf,
    GapFall,
    Patience,
    Plateau,
    StopRule,
    ValidationRise,
    build_rule,
    rule_names,
)
from crossover.trainers.rows import Evaluation, StopReason

CONFIGURED = [
    build_rule(StoppingConfig(rule="overfit")),
    build_rule(StoppingConfig(rule="overfit", patience=1, plateau_evaluations=4, min_rise=0.0, z=0.0)),
    build_rule(StoppingConfig(rule="task_gap")),
    build_rule(StoppingConfig(rule="none")),
]
RULES: list[StopRule] = [
    ValidationRise(min_rise=0.01, z=2.0),
    Patience(ValidationRise(min_rise=0.0, z=1.0), evaluations=2),
    GapFall(min_fall=0.01, z=2.0),
    Plateau(evaluations=3),
    Divergence(),
    FirstOf((Plateau(evaluations=2), Patience(Plateau(evaluations=1), evaluations=2))),
    *CONFIGURED,
]

losses = st.lists(st.floats(0.5, 12), min_size=1, max_size=12)


def history_of(
    val_losses: list[float], train_losses: list[float | None] | None = None, se: float = 0.02
) -> list[Evaluation]:
    """Rows as the loop writes them: the rise is over the best so far, 0 for a new best."""
    rows: list[Evaluation] = []
    best = math.inf
    for i, loss in enumerate(val_losses):
        rise = loss - best if loss >= best else loss * 0
        best = min(best, loss)
        rows.append(
            Evaluation(
                step=10 * (i + 1),
                epoch=1.25**i,
                tokens_seen=100 * (i + 1),
                unique_tokens=80,
                train_flops=0,
                train_flops_6nd=0,
                eval_flops=0,
                wall_seconds=0,
                eval_seconds=0,
                train_loss=train_losses[i] if train_losses else None,
                val_loss=loss,
                val_loss_se=0.1,
                val_loss_se_mc=0,
                val_bits_per_byte=loss,
                val_bits_per_byte_se=0.1,
                rise_over_best=rise,
                rise_over_best_se=se if rise else 0.0,
                best_val_loss=best,
                raw_val_loss=None,
                learning_rate=1e-3,
                grad_norm=None,
                tokens_per_second=None,
                mfu=None,
                peak_memory_bytes=1,
                precision="float32",
                device="a processor",
            )
        )
    return rows


def concrete_rules(base: type[StopRule] = StopRule) -> Iterator[type[StopRule]]:
    for rule in base.__subclasses__():
        if rule.__module__.startswith("crossover."):
            yield rule
        yield from concrete_rules(rule)


def test_every_rule_is_held_to_the_contract() -> None:
    assert {type(rule) for rule in RULES} == set(concrete_rules())
    assert set(rule_names()) == set(get_args(StoppingConfig.model_fields["rule"].annotation))


@pytest.mark.parametrize("rule", RULES, ids=repr)
class TestStopRuleContract:
    @given(losses)
    @settings(max_examples=20, deadline=None)
    def test_verdict_is_a_function_of_the_history_alone(self, rule: StopRule, val_losses: list[float]) -> None:
        history = history_of(val_losses)
        before = list(history)
        fed_one_by_one = [rule.verdict(history[:n]) for n in range(1, len(history) + 1)]
        asked_backwards = [rule.verdict(tuple(history[:n])) for n in range(len(history), 0, -1)]
        assert fed_one_by_one == asked_backwards[::-1]
        assert history == before

    @given(losses, st.integers(0, 12))
    @settings(max_examples=20, deadline=None)
    def test_saved_and_restored_in_the_middle_has_the_same_future(
        self, rule: StopRule, val_losses: list[float], middle: int
    ) -> None:
        history = history_of(val_losses)
        future = [rule.verdict(history[:n]) for n in range(middle, len(history) + 1)]
        restored_rule = eval(repr(rule), vars(overfitting))
        restored = [Evaluation.model_validate_json(row.model_dump_json()) for row in history[:middle]]
        assert restored_rule == rule
        assert [restored_rule.verdict(restored + history[middle:n]) for n in range(middle, len(history) + 1)] == future

    def test_nothing_seen_is_no_reason_to_stop(self, rule: StopRule) -> None:
        verdict = rule.verdict([])
        assert not verdict.stop
        assert verdict.best is None
        assert verdict.evidence

    @given(losses, st.lists(st.sampled_from([math.nan, math.inf]), min_size=1, max_size=3))
    @settings(max_examples=20, deadline=None)
    def test_loss_that_is_not_finite_is_never_the_best_and_never_overfitting(
        self, rule: StopRule, val_losses: list[float], bad: list[float]
    ) -> None:
        for history in (history_of(val_losses + bad), history_of(bad + val_losses), history_of(bad)):
            verdict = rule.verdict(history)
            assert verdict.evidence
            assert verdict.best is None or math.isfinite(history[verdict.best].val_loss)
            if not math.isfinite(history[-1].val_loss):
                assert verdict.reason != "overfit"

    @given(losses)
    @settings(max_examples=20, deadline=None)
    def test_best_is_the_first_of_the_smallest_losses(self, rule: StopRule, val_losses: list[float]) -> None:
        assert rule.verdict(history_of(val_losses)).best == val_losses.index(min(val_losses))

    @given(losses)
    @settings(max_examples=20, deadline=None)
    def test_reason_is_a_known_one_and_comes_with_evidence(self, rule: StopRule, val_losses: list[float]) -> None:
        verdict = rule.verdict(history_of(val_losses))
        assert verdict.stop == (verdict.reason is not None)
        assert verdict.reason in (None, *get_args(StopReason))
        assert verdict.evidence.strip()

    @given(st.floats(1.0, 10.0), st.floats(1e-6, 0.1), st.integers(1, 12))
    @settings(max_examples=20, deadline=None)
    def test_run_that_still_improves_goes_on_however_slowly_and_from_however_high(
        self, rule: StopRule, start: float, pace: float, count: int
    ) -> None:
        assert not rule.verdict(history_of([start - pace * i / 12 for i in range(count)])).stop

    def test_rule_is_frozen(self, rule: StopRule) -> None:
        assert dataclasses.is_dataclass(rule)
        name = dataclasses.fields(rule)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, name, 1)


@pytest.mark.parametrize("rule", CONFIGURED, ids=repr)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
class TestConfiguredRules:
    def test_validation_loss_that_is_not_finite_is_divergence_at_once(self, rule: StopRule, bad: float) -> None:
        verdict = rule.verdict(history_of([3.0, 2.0, bad]))
        assert verdict.reason == "diverged"
        assert verdict.best == 1

    def test_training_loss_that_is_not_finite_is_divergence_at_once(self, rule: StopRule, bad: float) -> None:
        assert rule.verdict(history_of([3.0, 2.0], train_losses=[3.0, bad])).reason == "diverged"
