from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crossover.platform.execution import control
from crossover.platform.execution.control import ControlState
from crossover.platform.search.budget import Budget
from crossover.trainers.run import Progress, StopRequest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(control.time, "monotonic", lambda: now[0])
    return now


def progress(trial_id: str) -> Progress:
    return Progress(trial_id, 1, 2, 0.5, None, "training")


def test_request_for_one_goes_before_one_for_all_and_ends_with_its_leg() -> None:
    state = ControlState()
    assert state.poll(progress("a")) is None
    state.request_stop(None, "budget", "spent")
    state.request_stop("a", "pruned", "others are better")
    assert state.poll(progress("a")) == StopRequest("pruned", "others are better")
    assert state.poll(progress("b")) == StopRequest("budget", "spent")
    state.leg_over("a")
    assert state.poll(progress("a")) == StopRequest("budget", "spent")


def test_leg_is_silent_when_it_was_not_heard_for_so_long(clock: list[float]) -> None:
    state = ControlState()
    state.heard("a")
    state.heard("b")
    clock[0] = 9.0
    state.poll(progress("b"))
    clock[0] = 11.0
    assert state.silent(10) == ["a"]
    state.row("a", {})
    assert state.silent(10) == []


def test_leg_that_waits_for_machines_or_has_ended_is_not_silent(clock: list[float]) -> None:
    state = ControlState()
    for trial_id in ("waits", "over"):
        state.heard(trial_id)
    state.waits("waits")
    state.leg_over("over")
    clock[0] = 1e6
    assert state.silent(1) == []
    state.heard("waits")
    clock[0] += 2
    assert state.silent(1) == ["waits"]


def test_rows_are_taken_once_and_in_order() -> None:
    state = ControlState()
    state.row("a", {"step": 1})
    state.row("a", {"step": 2})
    state.row("b", {"step": 7})
    assert state.take_rows("a") == [{"step": 1}, {"step": 2}]
    assert state.take_rows("a") == []
    assert state.take_rows("b") == [{"step": 7}]


def test_first_error_of_a_worker_stands_before_what_follows_from_it() -> None:
    state = ControlState()
    state.worker_failed("a", "ValueError: the cause")
    state.worker_failed("a", "RuntimeError: connection closed by peer")
    state.leg_over("a", "WorkerGroupError: workers failed")
    assert state.take_error("a") == "ValueError: the cause"
    assert state.take_error("a") is None


def test_error_that_was_got_over_is_forgotten() -> None:
    state = ControlState()
    state.worker_failed("a", "RuntimeError: a worker died")
    state.leg_over("a")
    assert state.take_error("a") is None


def spent(trial_id: str, flops: float, to_end: float = 0.0) -> Progress:
    return Progress(trial_id, 1, 2, 0.5, None, "training", flops, to_end)


def test_trial_hears_at_the_very_poll_that_the_budget_is_spent() -> None:
    state = ControlState(Budget(100.0, None))
    state.leg_begins("a", "ar")
    state.leg_begins("b", "ar")
    assert state.poll(spent("a", 40.0)) is None
    assert state.poll(spent("b", 50.0, 5.0)) is None
    assert state.poll(spent("a", 45.0)) == StopRequest(
        "budget", "budget.flops: 95 of 100 FLOPs are spent, and running trials need 5 to end"
    )
    state.leg_over("b")
    assert state.poll(spent("a", 45.0)) is None
    state.request_stop("a", "pruned", "others are better")
    request = state.poll(spent("a", 60.0))
    assert request is not None and request.reason == "pruned"


def test_trial_of_a_stratum_hears_of_its_share_alone() -> None:
    state = ControlState(Budget(100.0, None, shares={"ar": 0.5, "mdm": 0.5}))
    state.leg_begins("a", "ar")
    state.leg_begins("b", "mdm")
    assert state.poll(spent("b", 10.0)) is None
    request = state.poll(spent("a", 45.0, 6.0))
    assert request is not None
    assert request.evidence == (
        "50% of budget.flops: 45 of the 50 FLOPs of stratum ar are spent, and running trials need 6 to end"
    )
    assert state.poll(spent("b", 11.0)) is None


def test_device_hours_run_while_legs_do() -> None:
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    state = ControlState(Budget(None, None, device_hours=1.0, devices=2.0, now=lambda: now[0]))
    state.leg_begins("a", "ar")
    now[0] += timedelta(minutes=29)
    assert state.poll(spent("a", 1.0)) is None
    state.leg_over("a")
    now[0] += timedelta(hours=5)
    state.leg_begins("a", "ar")
    now[0] += timedelta(minutes=1)
    request = state.poll(spent("a", 2.0))
    assert request is not None and "budget.device_hours" in request.evidence
