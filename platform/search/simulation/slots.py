"""The event loop that stands where Ray stands: slots on which legs run, and a clock that jumps to the next event.

Planner, scheduler, searcher, budget and stop rule are those of a real study and are asked in the order in which the
driver asks them: an evaluation is noted in the budget, limits are looked at, running trials that are to stop hear of
it at their next poll, and a leg that has ended leaves its slot to whatever the planner names next.

A slot computes `flops_per_second`, of training and evaluation alike, and nothing else takes time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from crossover.platform.search.budget import Budget
from crossover.platform.search.plan import Finished, Leg, LegStatus, Wait
from crossover.platform.search.planner import Planner
from crossover.platform.search.simulation.trial import SimulatedTrial
from crossover.trainers.rows import Evaluation, StopReason
from crossover.trainers.run import StopRequest

__all__ = ["Clock", "Slots"]

Look = Callable[[SimulatedTrial, Evaluation], None]


@dataclass
class Clock:
    """Virtual time."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """As a date: what the budget reads."""
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=self.seconds)


@dataclass
class _Running:
    leg: Leg
    trial: SimulatedTrial
    until: int  # step at which the leg is over
    began: float  # the stretch that it computes now: since when, from which step, to which, until when
    begin_step: int
    end_step: int
    request: StopRequest | None = None
    event: int = 0  # number of its event; others in the heap are void
    is_training: bool = True  # else it is being judged, and hears of requests at once


@dataclass
class Slots:
    """Legs in virtual time.

    Args:
        planner: decides.
        budget: what may be spent, on this clock.
        clock: virtual time.
        trial_of: the trial of a leg.
        look: is shown each evaluation.
        flops_per_second: of a slot.
    """

    planner: Planner
    budget: Budget
    clock: Clock
    trial_of: Callable[[Leg], SimulatedTrial]
    look: Look
    flops_per_second: float
    stop_reason: str | None = None
    busy_flops: float = 0.0
    _live: dict[str, _Running] = field(default_factory=dict)
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def run(self) -> None:
        """To the end of the study."""
        while True:
            self._fill()
            if not self._heap:
                return
            time, number, trial_id = heapq.heappop(self._heap)
            running = self._live.get(trial_id)
            if running is not None and running.event == number:
                self._move_clock(time)
                self._arrive(running)

    def _move_clock(self, time: float) -> None:
        self.busy_flops += (time - self.clock.seconds) * len(self._live) * self.flops_per_second
        self.clock.seconds = time

    def _fill(self) -> None:
        while not isinstance(leg := self.planner.next_leg(), Wait | Finished):
            trial = self.trial_of(leg)
            until = trial.life.num_steps if leg.until_tokens is None else trial.life.step_of(leg.until_tokens)
            self._live[leg.trial_id] = running = _Running(leg, trial, until, 0.0, 0, 0)
            self._train_on(running)

    def _train_on(self, running: _Running) -> None:
        """To the next evaluation, or the end of the leg."""
        trial, now = running.trial, self.clock.seconds
        running.began, running.begin_step, running.is_training = now, trial.step, True
        running.end_step = min(trial.next_evaluation, running.until)
        self._come_back(running, now + self._seconds(running, running.end_step))

    def _seconds(self, running: _Running, step: int) -> float:
        """Of computing from the beginning of a stretch to a step, and evaluating there if it is due."""
        trial = running.trial
        flops = trial.life.costs.token * (trial.life.tokens(step) - trial.life.tokens(running.begin_step))
        if step == trial.next_evaluation or running.request is not None:
            flops += trial.life.costs.validation
        return flops / self.flops_per_second

    def _come_back(self, running: _Running, time: float) -> None:
        running.event = next(self._numbers)
        heapq.heappush(self._heap, (time, running.event, running.leg.trial_id))

    def _arrive(self, running: _Running) -> None:
        trial = running.trial
        if trial.tested:
            self._end(running)
            return
        trial.step, running.is_training = running.end_step, False
        if running.request is not None or trial.step == trial.next_evaluation:
            row = trial.evaluate()
            self.look(trial, row)
            self.budget.note(trial.trial_id, row.train_flops + row.eval_flops)
            self._keep_budget()
        ending = running.request or trial.ending()
        if ending is not None:
            running.request, trial.tested = ending, True
            self._come_back(running, self.clock.seconds + trial.life.costs.test / self.flops_per_second)
        elif trial.step >= running.until:
            self._leave(running, "paused")
        else:
            self._train_on(running)

    def _end(self, running: _Running) -> None:
        assert running.request is not None, "a trial is tested when it ends"
        running.trial.ended = running.request.reason
        self.budget.note(running.trial.trial_id, running.trial.flops)
        self._leave(running, "ended")

    def _leave(self, running: _Running, status: LegStatus) -> None:
        del self._live[running.leg.trial_id]
        self.planner.leg_ended(running.leg.trial_id, status)
        self._keep_budget()

    # The budget, as the driver keeps it ------------------------------------------------------------------------------

    def _keep_budget(self) -> None:
        evidence = self.budget.exhausted() if self.stop_reason is None else None
        if evidence is not None:
            self.stop_reason = evidence
            self.planner.stop()
            for running in list(self._live.values()):
                self._ask_to_stop(running, "budget", evidence)
        if self.stop_reason is None:
            for trial_id, why in self.planner.stop_exhausted():
                self._ask_to_stop(self._live[trial_id], "budget", why)

    def _ask_to_stop(self, running: _Running, reason: StopReason, evidence: str) -> None:
        """It hears of it at its next poll, evaluates, and ends; one that is testing ends anyway."""
        trial, now = running.trial, self.clock.seconds
        if trial.tested or running.request is not None:
            return
        running.request = StopRequest(reason, evidence)
        if not running.is_training:
            return
        poll = trial.life.config.checkpoint.poll_seconds
        heard = running.began + poll * max(1, -(-(now - running.began) // poll))
        tokens = trial.life.costs.token * trial.life.tokens(running.begin_step)
        tokens += (heard - running.began) * self.flops_per_second
        step = trial.life.step_of(round(tokens / trial.life.costs.token))
        running.end_step = max(running.begin_step + 1, min(step, running.end_step))
        self._come_back(running, max(now, running.began + self._seconds(running, running.end_step)))
