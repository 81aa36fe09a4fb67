"""What every scheduler must hold to: register a new one, and it is held to it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.platform.search.rungs import Horizon
from crossover.platform.search.schedulers import (
    Cohort,
    CurvePoint,
    Reached,
    RungDecision,
    Scheduler,
    SchedulerSettings,
    Standing,
    get_scheduler,
    scheduler_names,
)
from crossover.trainers.errors import ConfigError

HORIZON = Horizon(unique_tokens=1_000, max_epochs=81.0, first_evaluation=0.5, evaluation_ratio=1.25)
NAMES = scheduler_names()
SYNCHRONOUS = [name for name in NAMES if get_scheduler(name).synchronous]


def at_first_rung(values: Sequence[float | None], scheduler: Scheduler, order: Sequence[int] | None = None) -> Cohort:
    """A cohort of which every trial has just come to its first rung, in some order; those without one have ended."""
    cohort = Cohort(size=len(values), horizon=HORIZON)
    for number in order if order is not None else range(len(values)):
        cohort.put(standing(number, values[number], bool(scheduler.rungs(cohort, number))))
    return cohort


def standing(number: int, value: float | None, paused: bool = True, **changes: object) -> Standing:
    points = () if value is None else tuple(CurvePoint(100 * i, value + 1 / i, 600.0 * i) for i in range(1, 8))
    known: dict[str, object] = {
        "trial_id": f"t{number}",
        "stratum": "s",
        "number": number,
        "repeat": 0,
        "config_hash": f"{number * 7919 % 1000:03d}",
        "state": "paused" if paused else "ended",
        "value": value,
        "reached": (Reached(value, 4_200.0),) if paused else (),
        "flops": 4_200.0,
        "max_tokens": 81_000,
        "curve": points,
    }
    return Standing(**{**known, **changes})  # type: ignore[arg-type]


values = st.lists(st.none() | st.floats(0.5, 9.0), min_size=2, max_size=20)


@pytest.mark.parametrize("name", NAMES)
class TestSchedulerContract:
    def test_rungs_rise_and_lie_at_evaluations_before_the_last_epoch(self, name: str) -> None:
        for eta in (2, 3, 4):
            for first in (None, 0.5, 1.0, 7.0):
                scheduler = get_scheduler(name, SchedulerSettings(eta, first))
                cohort = Cohort(size=30, horizon=HORIZON)
                for position in range(30):
                    rungs = scheduler.rungs(cohort, position)
                    assert list(rungs) == sorted(set(rungs))
                    for epochs in rungs:
                        assert HORIZON.first_evaluation <= epochs < HORIZON.max_epochs
                        assert HORIZON.evaluation_near(epochs) == pytest.approx(epochs)

    @given(values)
    @settings(max_examples=20, deadline=None)
    def test_only_trials_that_wait_are_decided_each_once_with_a_reason(
        self, name: str, found: list[float | None]
    ) -> None:
        scheduler = get_scheduler(name)
        cohort = at_first_rung(found, scheduler)
        decisions = scheduler.decide(cohort)
        assert len({decision.trial_id for decision in decisions}) == len(decisions)
        for decision in decisions:
            assert cohort.standing(decision.trial_id).is_undecided
            assert decision.rung == 0
            assert decision.reason.strip()

    @given(values)
    @settings(max_examples=20, deadline=None)
    def test_every_newcomer_is_decided_and_somebody_goes_on(self, name: str, found: list[float | None]) -> None:
        scheduler = get_scheduler(name)
        cohort = at_first_rung(found, scheduler)
        waiting = {s.trial_id for s in cohort.undecided}
        decisions = scheduler.decide(cohort)
        assert {decision.trial_id for decision in decisions} == waiting
        if len(waiting) >= scheduler.settings.eta:
            assert any(decision.action in ("promote", "continue", "keep") for decision in decisions)

    @given(values)
    @settings(max_examples=20, deadline=None)
    def test_decisions_are_a_function_of_the_cohort_and_change_nothing(
        self, name: str, found: list[float | None]
    ) -> None:
        first = at_first_rung(found, get_scheduler(name))
        once = list(get_scheduler(name).decide(first))
        assert list(get_scheduler(name).decide(first)) == once
        assert list(get_scheduler(name).decide(at_first_rung(found, get_scheduler(name)))) == once

    @given(values)
    @settings(max_examples=20, deadline=None)
    def test_what_was_decided_stands(self, name: str, found: list[float | None]) -> None:
        scheduler = get_scheduler(name)
        cohort = at_first_rung(found, scheduler)
        for decision in scheduler.decide(cohort):
            cohort.put(carried_out(cohort.standing(decision.trial_id), decision))
        assert list(scheduler.decide(cohort)) == []

    def test_trial_without_a_value_never_goes_on_before_one_that_has_one(self, name: str) -> None:
        scheduler = get_scheduler(name)
        cohort = at_first_rung([None, None, None, *(1 + i / 10 for i in range(9))], scheduler)
        decisions = {d.trial_id: d.action for d in scheduler.decide(cohort)}
        lost = {f"t{number}" for number in range(3)}
        refused = {trial_id for trial_id, action in decisions.items() if action in ("pause", "stop")}
        if name not in ("none", "asha", "hyperband") and refused:  # ASHA lets them go on, as Ray does
            assert lost <= refused

    def test_best_trial_is_never_refused(self, name: str) -> None:
        scheduler = get_scheduler(name)
        for best in range(12):
            found = [2.0 + number / 100 for number in range(12)]
            found[best] = 1.0
            decisions = {d.trial_id: d.action for d in scheduler.decide(at_first_rung(found, scheduler))}
            assert decisions.get(f"t{best}") in ("promote", "continue", None)

    def test_empty_and_ended_cohorts_need_no_decision(self, name: str) -> None:
        scheduler = get_scheduler(name)
        assert list(scheduler.decide(Cohort(size=3, horizon=HORIZON))) == []
        cohort = Cohort(size=3, horizon=HORIZON)
        for number in range(3):
            cohort.put(standing(number, 1.0, paused=False))
        assert list(scheduler.decide(cohort)) == []


def carried_out(before: Standing, decision: RungDecision) -> Standing:
    changes: dict[str, object] = {"reached": before.reached, "passed": before.passed}
    if decision.action in ("promote", "continue", "keep"):
        changes |= {"passed": before.passed + 1, "state": "waiting"}
    elif decision.action == "stop":
        changes |= {"state": "ended"}
    else:
        changes |= {"held": decision.reason}
    return standing(before.number, before.value, **changes)


@pytest.mark.parametrize("name", SYNCHRONOUS)
class TestSetScheduler:
    @given(values, st.integers(0, 1_000))
    @settings(max_examples=20, deadline=None)
    def test_order_of_arrival_changes_nothing(self, name: str, found: list[float | None], seed: int) -> None:
        scheduler = get_scheduler(name)
        order = random.Random(seed).sample(range(len(found)), len(found))
        straight = scheduler.decide(at_first_rung(found, scheduler))
        shuffled = scheduler.decide(at_first_rung(found, scheduler, order))
        assert set(straight) == set(shuffled)

    def test_nothing_is_decided_while_anything_moves(self, name: str) -> None:
        scheduler = get_scheduler(name)
        for state in ("running", "waiting"):
            cohort = at_first_rung([1.0, 2.0, 3.0, 4.0], scheduler)
            cohort.put(standing(0, 1.0, state=state, reached=()))
            assert list(scheduler.decide(cohort)) == []


def test_unknown_scheduler_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"search\.scheduler = ashes is unknown: set one of .*cohort_halving"):
        get_scheduler("ashes")


def test_infinite_and_missing_values_rank_last() -> None:
    cohort = at_first_rung([None, 2.0, 1.0], get_scheduler("cohort_halving"))
    assert [rank[0] for rank in cohort.ranking(0)] == [1.0, 2.0, math.inf]
