from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crossover.platform.execution.decisions import AttemptStarted, Decision, LegEnded, LegStarted, StudyFinished
from crossover.platform.search.budget import Budget, attempt_seconds, leg_seconds

START = datetime(2030, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_attempts_add_up_and_the_time_between_them_does_not_count() -> None:
    first: list[Decision] = [
        AttemptStarted(time=at(0), pid=1, host="h", versions={}, resumed=False),
        LegStarted(time=at(100), trial_id="a", leg=1),
    ]
    second: list[Decision] = [
        AttemptStarted(time=at(10_000), pid=1, host="h", versions={}, resumed=True),
        StudyFinished(time=at(10_020), reason="done"),
    ]
    assert attempt_seconds([first, [], second]) == 120


def test_flops_of_a_trial_are_counted_once_and_never_taken_back() -> None:
    budget = Budget(flops=100.0, wall_seconds=None)
    budget.note("a", 30.0)
    budget.note("a", 50.0)
    budget.note("a", 40.0)  # a leg that goes on from an older checkpoint
    budget.note("b", 20.0)
    assert budget.spent_flops == 70.0
    assert budget.fraction_spent() == pytest.approx(0.7)
    assert budget.exhausted() is None
    budget.note("b", 50.0)
    assert "budget.flops" in (budget.exhausted() or "")


def test_wall_time_of_earlier_attempts_counts() -> None:
    budget = Budget(flops=None, wall_seconds=100.0, earlier_seconds=60.0, started=datetime.now(UTC))
    assert budget.exhausted() is None
    assert budget.fraction_spent() == pytest.approx(0.6, abs=0.01)
    budget = Budget(None, 100.0, 60.0, datetime.now(UTC) - timedelta(seconds=41))
    assert "budget.wall_seconds" in (budget.exhausted() or "")
    assert budget.fraction_spent() == 1.0


def test_study_without_limits_never_ends_by_its_budget() -> None:
    budget = Budget(None, None)
    budget.note("a", 1e30)
    assert budget.exhausted() is None
    assert budget.fraction_spent() is None


def test_stratum_pays_for_its_own_trials_whenever_they_are_placed() -> None:
    budget = Budget(flops=100.0, wall_seconds=None, shares={"ar": 0.5, "mdm": 0.5})
    budget.note("a", 30.0)
    budget.place("a", "ar")
    budget.place("b", "mdm")
    budget.note("b", 20.0)
    budget.place("a", "mdm")  # asked for twice: the first pays
    budget.note("a", 50.0)
    assert (budget.spent_flops_in("ar"), budget.spent_flops_in("mdm")) == (50.0, 20.0)
    assert budget.exhausted("mdm") is None
    assert budget.exhausted() is None
    evidence = budget.exhausted("ar") or ""
    assert "50% of budget.flops" in evidence
    assert "stratum ar" in evidence


def test_strata_without_shares_have_no_limit_of_their_own() -> None:
    budget = Budget(flops=10.0, wall_seconds=None)
    budget.place("a", "ar")
    budget.note("a", 20.0)
    assert budget.exhausted("ar") is None
    assert budget.exhausted() is not None


def test_device_hours_are_those_of_legs_running_ones_included() -> None:
    now = [START]
    budget = Budget(None, None, device_hours=10.0, devices=4.0, earlier_leg_seconds=3600.0, now=lambda: now[0])
    budget.leg_started("a")
    budget.leg_started("b")
    now[0] += timedelta(hours=0.5)
    budget.leg_ended("b")
    now[0] += timedelta(hours=0.25)
    assert budget.spent_device_hours == pytest.approx(4 * (1 + 0.5 + 0.75))
    assert budget.exhausted() is None
    now[0] += timedelta(hours=0.25)
    assert budget.exhausted() == "budget.device_hours: 10 of 10 device-hours are spent"


def test_leg_that_was_cut_off_lasts_to_the_last_decision_of_its_attempt() -> None:
    lines: list[Decision] = [
        LegStarted(time=at(0), trial_id="a", leg=1),
        LegStarted(time=at(10), trial_id="b", leg=1),
        LegEnded(time=at(40), trial_id="a", leg=1, status="ended"),
        LegStarted(time=at(50), trial_id="c", leg=1),
    ]
    assert leg_seconds([lines, []]) == 40 + 40 + 0
