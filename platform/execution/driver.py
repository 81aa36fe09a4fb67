"""The driver of one attempt: hears of legs, keeps the budget, asks trials to stop, and keeps the view up to date.

Everything happens in the main thread, between two events of Tune: its loop comes round every 0.1 s.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import ray
from ray.tune import Callback

from crossover.platform.execution.checkpoint_quota import CheckpointQuota
from crossover.platform.execution.decisions import Decision, StopRequested
from crossover.platform.execution.display import StudyDisplay, duration
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.tracking import Tracking
from crossover.platform.execution.view import StudyView
from crossover.platform.search.budget import Budget
from crossover.platform.search.plan import Leg, LegStatus
from crossover.platform.search.planner import Planner
from crossover.trainers.rows import StopReason

__all__ = ["Interrupts", "StudyDriver", "Ticker"]

_PROGRESS_SECONDS = 0.5


@dataclass
class Interrupts:
    """Ctrl-C and SIGTERM: the first asks to stop, the second stops at once."""

    count: int = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """While this lasts; in another thread than the main one nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


@dataclass
class StudyDriver:
    """What one attempt keeps in its hands; `check_driver` raises if another driver has taken over."""

    planner: Planner
    log: Callable[[Decision], None]
    control: Any
    results: RecordResults
    budget: Budget
    view: StudyView
    interrupts: Interrupts
    tracking: Tracking
    quota: CheckpointQuota | None = None
    check_driver: Callable[[], None] = lambda: None
    stop_reason: StopReason | None = None
    _asked: float = field(default=0.0)

    def leg_started(self, leg: Leg) -> None:
        """A leg was given to Tune."""
        if self.quota is not None and (missing := self.quota.make_room(self.planner.live)) is not None:
            self.request_stop("interrupted", missing)
        trial = self.view.trial(leg.trial_id)
        self.view.leg_started(leg.trial_id)
        trial.activity = "starting"
        self.view.say(f"{'started' if leg.leg == 1 else 'goes on'}: {trial.name} ({leg.trial_id})")

    def row(self, leg: Leg, row: dict[str, Any]) -> None:
        """An evaluation was reported."""
        trial = self.view.trial(leg.trial_id)
        trial.take_row(row)
        rise = "" if trial.best is None or trial.last == trial.best else f", best {trial.best:.4f}"
        validation = f"validation {row['val_bits_per_byte']:.4f} bits/byte"
        self.view.say(f"{trial.name}: epoch {row['epoch']:.1f}, {validation}{rise}", detail=True)
        self.tracking.row(trial, leg.suggested.stratum_label)
        self._keep_budget()

    def leg_ended(self, leg: Leg, status: LegStatus, error: str | None) -> None:
        """A leg has ended."""
        self._hear()  # before another leg starts: what the others need to end is theirs
        trial = self.view.trial(leg.trial_id)
        end = self.results.record(leg.trial_id).end()
        trial.tokens_per_second = None
        trial.state = "paused"
        if self.quota is not None:
            self.quota.changed(leg.trial_id)
        if end is not None:
            trial.take_end(end)
            self.budget.note(leg.trial_id, end.train_flops + end.eval_flops)
            best = "" if trial.best is None else f", best {trial.best:.4f} bits/byte"
            self.view.say(f"ended: {trial.name}{best}, {trial.why}")
        elif status == "failed":
            self.view.say(f"failed, and will be tried once more: {trial.name}: {error}")
        else:
            self.view.say(f"{status}: {trial.name}")
        self.tracking.left(trial, leg.suggested.stratum_label)
        self._keep_budget()
        if status == "interrupted":
            self._stop_if_nothing_can_be_stored()

    def tick(self) -> None:
        """Looks at what comes without an event: interrupts, the clock, how far trials are."""
        if self.interrupts.count and self.stop_reason != "interrupted":
            self.request_stop("interrupted", "interrupted by the user; the same command goes on with it")
        if time.monotonic() - self._asked > _PROGRESS_SECONDS:
            self._asked = time.monotonic()
            self._hear()
            self._keep_budget()
            self._stop_if_nothing_can_be_stored()

    def _hear(self) -> None:
        """Takes up how far running trials are, and what they have spent."""
        live = set(self.planner.live)
        for trial_id, progress in ray.get(self.control.progress.remote()).items():
            if trial_id in live:
                self.budget.note(trial_id, progress.flops, progress.ending_flops)
                self.view.trial(trial_id).take_progress(progress)

    def request_stop(self, reason: StopReason, evidence: str) -> None:
        """Asks every trial to stop at its next poll, and starts no other."""
        self.stop_reason = reason
        self.planner.stop()
        self.log(StopRequested(trial_id=None, reason=reason, evidence=evidence))
        ray.get(self.control.request_stop.remote(None, reason, evidence))
        self.view.stopping = evidence
        self.view.say(f"stopping: {evidence}")

    def _stop_if_nothing_can_be_stored(self) -> None:
        self.check_driver()
        if self.stop_reason != "interrupted" and (error := ray.get(self.control.storage_trouble.remote())) is not None:
            self.request_stop("interrupted", error)

    def _keep_budget(self) -> None:
        self.view.budget, self.view.budget_fraction = _budget_words(self.budget), self.budget.fraction_spent()
        evidence = self.budget.exhausted()
        if evidence is not None and self.stop_reason is None:
            self.request_stop("budget", evidence)
        if self.stop_reason is None:
            self._stop_strata()

    def _stop_strata(self) -> None:
        """Asks the trials of strata whose share of the budget is spent."""
        for trial_id, evidence in self.planner.stop_exhausted():
            ray.get(self.control.request_stop.remote(trial_id, "budget", evidence))
            self.view.say(f"stopping {self.view.trial(trial_id).name}: {evidence}")


def _budget_words(budget: Budget) -> str:
    flops = f"{budget.spent_flops:.2e}" + (f" of {budget.flops:.2e}" if budget.flops is not None else "")
    seconds = duration(budget.spent_seconds)
    if budget.wall_seconds is not None:
        seconds += f" of {duration(budget.wall_seconds)}"
    if budget.device_hours is not None:
        seconds += f", {budget.spent_device_hours:.3g} of {budget.device_hours:.3g} device-hours"
    return f"{flops} FLOPs, {seconds} spent"


class Ticker(Callback):
    """Lets Tune's loop drive the driver and the display."""

    def __init__(self, driver: StudyDriver, display: StudyDisplay) -> None:
        self._driver = driver
        self._display = display

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Comes round at least every 0.1 s."""
        self._driver.tick()
        self._display.update()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into its folder; they are never read back
