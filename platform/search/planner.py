"""Which leg runs next. Pure Python: Ray asks through `tune_searcher.py`, tests and the simulation drive it by hand.

The planner holds nothing that cannot be rebuilt: from the decisions already written and from the trials' own records
it comes to the same state in a new process, so a study goes on wherever it was when its driver died.

Order: a trial that was interrupted, a promotion, a trial that waits (of the stratum that started the fewest, so all
strata advance together), new configurations, repeats of the best configuration of a stratum whose search is over, a
trial that is kept for its curve alone, nothing more. Only one leg of a trial lives at a time, and never more legs than
slots.

A scheduler that decides sets gets its configurations cohort by cohort: the next ones are drawn when all before them
have ended, so that what a sampler knows does not depend on the order of arrival either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crossover.platform.execution.decisions import (
    CohortDrawn,
    Decision,
    LegEnded,
    LegStarted,
    RungDecided,
    StratumStopped,
    Suggested,
    TrialClosed,
)
from crossover.platform.search.budget import Budget
from crossover.platform.search.plan import Finished, Leg, LegStatus, Outcome, Plan, Results, Wait
from crossover.platform.search.planner_cohorts import CohortKeeper
from crossover.platform.search.planner_draws import Drawer
from crossover.platform.search.planner_state import State, StratumState, StudyState, TrialState
from crossover.platform.search.schedulers import Reached
from crossover.trainers.rows import StopReason

__all__ = ["MAX_FAILURES", "Planner"]

MAX_FAILURES = 1
"""How often a trial is tried again after a failure, from its newest checkpoint."""

_READY: tuple[State, ...] = ("interrupted", "promoted", "waiting", "paused")
_HELD: tuple[State, ...] = ("interrupted", "promoted", "paused")


class Planner:
    """Decides the next leg.

    Args:
        plan: what the study asks.
        results: the trials' records.
        log: writes a decision down before it takes effect.
        slots: legs that fit at once.
        history: decisions of earlier attempts, oldest first.
        budget: what has been spent, and each stratum's share; None: no limits.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        log: Callable[[Decision], None],
        *,
        slots: int,
        history: Iterable[Decision] = (),
        budget: Budget | None = None,
    ) -> None:
        self._plan = plan
        self._results = results
        self._log = log
        self._budget = budget or Budget(None, None)
        self.slots = slots
        self._state = StudyState(plan.strata, plan.repeats)
        self._cohorts = CohortKeeper(self._state, plan.scheduler, plan.repeats, log, self._close)
        self._draws = Drawer(plan, self._state, self._cohorts, log, lambda line: self._settle(self._add(line)))
        self._told_to_stop: set[str] = set()
        self._stopped = False
        self._replaying = True
        self._replay(history)
        self._replaying = False

    @property
    def live(self) -> tuple[str, ...]:
        """Trials that have a leg now."""
        return tuple(self._state.of("running"))

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Trials that were made and have not ended."""
        return tuple(trial_id for trial_id, trial in self._state.trials.items() if trial.state != "ended")

    @property
    def has_work(self) -> bool:
        """Whether a leg could start, or a trial waits to be decided, had it a slot and nobody stopped the planner."""
        return any(self._has_work(stratum) for stratum in self._state.strata.values() if not self._spent(stratum))

    @property
    def spent(self) -> str | None:
        """Which stratum had work and has no budget for it, with the numbers; None: none."""
        strata = self._state.strata.values()
        return next((why for s in strata if (why := self._spent(s)) is not None and self._has_work(s)), None)

    def next_leg(self) -> Leg | Wait | Finished:
        """The leg to start now; it counts as running from here on."""
        if len(self._state.of("running")) >= self.slots:
            return Wait()
        if not self._stopped:
            self._stop_strata()
        trial = None if self._stopped else self._next_trial()
        if trial is not None:
            return self._start(trial)
        return Wait() if self._state.of("running") else Finished()

    def leg_ended(self, trial_id: str, status: LegStatus, error: str | None = None) -> None:
        """A leg gave its worker back."""
        trial, outcome = self._state.trials[trial_id], self._results.outcome(trial_id)
        if status == "ended" and not outcome.ended:
            status, error = "failed", "the trial returned without writing its end"
        line = LegEnded(trial_id=trial_id, leg=trial.legs, status=status, error=error)
        if status == "paused":
            line = line.model_copy(update={"value": outcome.value, "flops": outcome.flops})
        self._log(line)
        self._budget.leg_ended(trial_id)
        self._note_end(trial, line)
        self._settle(trial, outcome)
        if not self._stopped:
            self._cohorts.decide(trial)

    def stop(self) -> None:
        """No new legs and no decisions from here on; what runs is left to end."""
        self._stopped = True

    def stop_exhausted(self) -> list[tuple[str, str]]:
        """Stops every stratum whose share of the budget is spent: what waits in it ends, and nothing starts.

        Returns:
            Running trials of such strata that are to be asked to stop, each once, with the evidence.
        """
        self._stop_strata()
        asked = [t for t in self._state.of("running").values() if self._is_to_be_asked(t)]
        self._told_to_stop |= {trial.trial_id for trial in asked}
        return [(trial.trial_id, self._why_stopped(trial)) for trial in asked]

    # The state of the trials -----------------------------------------------------------------------------------------

    def _replay(self, history: Iterable[Decision]) -> None:
        for line in history:
            if isinstance(line, Suggested):
                if line.stratum_label in self._state.strata:
                    self._add(line)
            elif isinstance(line, CohortDrawn):
                if line.stratum_label in self._state.strata:
                    self._cohorts.drawn(line)
            elif isinstance(line, RungDecided):
                self._cohorts.replay(line)
            elif isinstance(line, LegStarted | LegEnded) and line.trial_id in self._state.trials:
                self._replay_leg(self._state.trials[line.trial_id], line)
        for trial in self._state.trials.values():
            self._settle(trial)
        self._draws.after_replay()

    def _replay_leg(self, trial: TrialState, line: LegStarted | LegEnded) -> None:
        if isinstance(line, LegStarted):
            trial.legs = line.leg
            self._state.move(trial, "interrupted")  # unless its end follows
        else:
            self._note_end(trial, line)

    def _note_end(self, trial: TrialState, line: LegEnded) -> None:
        # A failed trial goes on until it is given up.
        self._state.move(trial, "interrupted" if line.status == "failed" else line.status)
        if line.status == "paused":
            trial.reached.append(Reached(line.value, line.flops))
        if line.status == "failed":
            trial.failures += 1
            trial.error = line.error

    def _settle(self, trial: TrialState, outcome: Outcome | None = None) -> None:
        """Brings a trial in line with its record, which is the truth, and gives up one that failed too often."""
        trial_id = trial.trial_id
        outcome = outcome or self._results.outcome(trial_id)
        if not outcome.ended and (ending := self._ending(trial)) is not None:
            self._write_end(trial, *ending)
            outcome = self._results.outcome(trial_id)
        trial.outcome = outcome
        self._budget.note(trial_id, outcome.flops)
        if outcome.ended:
            self._state.move(trial, "ended")
        elif trial.state == "ended":
            self._state.move(trial, "interrupted")
        self._cohorts.update(trial)
        for label, number in trial.places:
            self._tell(self._state.strata[label], number)

    def _ending(self, trial: TrialState) -> tuple[StopReason, str] | None:
        """Why a trial that has no end gets one."""
        if trial.failures > MAX_FAILURES:
            return "failed", trial.error or "it failed"
        if trial.refused is not None and trial.state == "paused":
            return "pruned", trial.refused
        if trial.state in _HELD and self._state.is_stopped(trial):
            return "budget", self._why_stopped(trial)
        return None

    def _close(self, trial: TrialState, reason: StopReason, evidence: str) -> None:
        self._write_end(trial, reason, evidence)
        self._settle(trial)

    def _write_end(self, trial: TrialState, reason: StopReason, evidence: str) -> None:
        if not self._replaying:  # what is closed then was decided in an earlier attempt, and its log is closed too
            self._log(TrialClosed(trial_id=trial.trial_id, reason=reason, evidence=evidence))
        self._results.close(trial.trial_id, reason, evidence)

    def _tell(self, stratum: StratumState, number: int) -> None:
        repeats = stratum.configurations[number]
        if number in stratum.told or len(repeats) < self._plan.repeats:
            return
        if self._state.are_over(repeats.values()):
            stratum.told.add(number)
            stratum.plan.searcher.tell(number, self._state.mean(repeats.values()))

    # The budget ------------------------------------------------------------------------------------------------------

    def _stop_strata(self) -> None:
        for stratum in self._state.strata.values():
            evidence = self._budget.exhausted(stratum.label) if stratum.stopped is None else None
            if evidence is not None:
                self._log(StratumStopped(stratum_label=stratum.label, reason="budget", evidence=evidence))
                stratum.stopped = evidence
                self._end_what_waits()

    def _end_what_waits(self) -> None:
        for state in _HELD:
            for trial in list(self._state.of(state).values()):
                self._settle(trial, trial.outcome)

    def _is_to_be_asked(self, trial: TrialState) -> bool:
        return trial.trial_id not in self._told_to_stop and self._state.is_stopped(trial)

    def _why_stopped(self, trial: TrialState) -> str:
        return self._state.strata[trial.suggested.stratum_label].stopped or "the budget is spent"

    # What comes next -------------------------------------------------------------------------------------------------

    def _next_trial(self) -> TrialState | None:
        while True:
            if (trial := self._ready()) is not None:
                return trial
            if self._draws.suggest():
                continue
            self._cohorts.decide_all()
            if self._ready() is None and not self._draws.suggest() and not self._draws.confirm():
                return self._first("promoted", kept=True)

    def _ready(self) -> TrialState | None:
        if (trial := self._first("interrupted") or self._first("promoted", kept=False)) is not None:
            return trial
        waiting = [s for s in self._state.strata.values() if s.waiting and s.stopped is None]
        if not waiting or self._draws.is_drawing():
            return None
        stratum = min(waiting, key=lambda s: s.started)
        return self._state.trials[next(iter(stratum.waiting))]

    def _first(self, state: State, kept: bool | None = None) -> TrialState | None:
        """The first trial in a state that may go on; None for `kept`: whether it is kept or not."""
        for trial in self._state.of(state).values():
            if not self._state.is_stopped(trial) and kept in (None, trial.is_kept):
                return trial
        return None

    def _start(self, trial: TrialState) -> Leg:
        trial.legs += 1
        self._log(LegStarted(trial_id=trial.trial_id, leg=trial.legs))
        if trial.legs == 1:
            self._state.strata[trial.suggested.stratum_label].started += 1
        self._told_to_stop.discard(trial.trial_id)
        self._state.move(trial, "running")
        self._budget.leg_started(trial.trial_id)
        self._cohorts.update(trial)
        return Leg(trial.suggested, trial.legs, self._cohorts.until_tokens(trial))

    def _spent(self, stratum: StratumState) -> str | None:
        return stratum.stopped or self._budget.exhausted(stratum.label)

    def _has_work(self, stratum: StratumState) -> bool:
        ready = (trial for state in _READY for trial in self._state.of(state).values())
        waits = any(label == stratum.label for trial in ready for label, _ in trial.places)
        return waits or self._draws.is_wanting(stratum)

    def _add(self, line: Suggested) -> TrialState:
        trial, stratum = self._state.add(line), self._state.strata[line.stratum_label]
        self._budget.place(line.trial_id, line.stratum_label)
        self._cohorts.joined(trial, stratum)
        return trial
