from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crossover.platform.execution.decisions import AttemptStarted, Decision, LegStarted, StudyFinished
from crossover.platform.search.budget import Budget, attempt_seconds

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
