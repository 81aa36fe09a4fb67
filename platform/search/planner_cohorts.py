"""Cohorts: who is in them, when they are decided, and what a decision does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from crossover.platform.execution.decisions import CohortDrawn, Decision, RungDecided, TrialDecided
from crossover.platform.search.planner_state import CohortState, StratumState, StudyState, TrialState
from crossover.platform.search.schedulers import Cohort, Horizon, RungDecision, Scheduler

if TYPE_CHECKING:
    from crossover.trainers.rows import StopReason

__all__ = ["CohortKeeper"]

_STUDY = ""

Close = Callable[[TrialState, "StopReason", str], None]
"""Ends a trial that waits, with a reason and its evidence."""


class CohortKeeper:
    """Keeps the cohorts of a study, and has them decided.

    Args:
        state: the trials.
        scheduler: decides.
        repeats: repeats of a configuration in the search.
        log: writes a decision down before it takes effect.
        close: ends a trial.
    """

    def __init__(
        self, state: StudyState, scheduler: Scheduler, repeats: int, log: Callable[[Decision], None], close: Close
    ) -> None:
        self._state = state
        self._scheduler = scheduler
        self._repeats = repeats
        self._log = log
        self._close = close
        self._cohorts: dict[tuple[str, int], CohortState] = {}
        if not scheduler.synchronous:
            self._open_all()

    @property
    def draws_sets(self) -> bool:
        """Whether configurations are drawn cohort by cohort."""
        return self._scheduler.synchronous

    def drawn(self, line: CohortDrawn) -> None:
        """The newest configurations of a stratum are a cohort."""
        stratum = self._state.strata[line.stratum_label]
        earlier = tuple(before.cohort for before in stratum.cohorts)
        cohort = self._new(stratum.label, line.number, line.size, stratum.plan.horizon, line.first, earlier)
        stratum.cohorts.append(cohort)
        stratum.drawn += line.size
        for number in range(line.first, line.first + line.size):
            for repeat, trial_id in stratum.configurations[number].items():
                if repeat < self._repeats:
                    self._seat(self._state.trials[trial_id], cohort)

    def joined(self, trial: TrialState, stratum: StratumState) -> None:
        """A trial was made in a study whose configurations are drawn one by one."""
        if not self._scheduler.synchronous and trial.suggested.repeat < self._repeats:
            label = _STUDY if self._scheduler.scope == "study" else stratum.label
            self._seat(trial, self._cohorts[label, 0])

    def until_tokens(self, trial: TrialState) -> int | None:
        """Where a trial's next leg ends; None: with the trial."""
        if not trial.seats:
            return None
        cohort, stratum = trial.seats[0].cohort, self._state.strata[trial.suggested.stratum_label]
        rungs = self._scheduler.rungs(cohort, trial.suggested.number - cohort.first)
        if len(trial.reached) >= len(rungs):
            return None
        return stratum.plan.horizon.tokens(rungs[len(trial.reached)])

    def update(self, trial: TrialState) -> None:
        """A trial has changed."""
        for seat in trial.seats:
            seat.cohort.put(trial.standing(seat))

    def replay(self, line: RungDecided) -> None:
        """A decision that was taken before."""
        if (seat := self._cohorts.get((line.stratum_label, line.cohort))) is not None:
            for decided in line.decisions:
                self._take(self._state.trials[decided.trial_id], seat, decided)

    def decide(self, trial: TrialState) -> None:
        """Decides the cohorts of a trial that has just changed."""
        for seat in trial.seats:
            self._decide(seat)

    def decide_all(self) -> None:
        """Decides whatever can be decided: after a restart, and when nothing else is left."""
        for seat in list(self._cohorts.values()):
            self._decide(seat)

    def _decide(self, seat: CohortState) -> None:
        cohort = seat.cohort
        if seat.is_over or (self._scheduler.synchronous and not cohort.is_settled):
            return
        if cohort.num_paused and (decisions := self._scheduler.decide(cohort)):
            self._carry_out(seat, decisions)
        if cohort.is_settled and self._is_complete(seat):
            seat.is_over = True
            for standing in cohort.paused:
                self._prune(self._state.trials[standing.trial_id], standing.held or "its cohort is over")

    def _carry_out(self, seat: CohortState, decisions: Sequence[RungDecision]) -> None:
        decided = tuple(
            TrialDecided(trial_id=d.trial_id, rung=d.rung, action=d.action, reason=d.reason) for d in decisions
        )
        self._log(RungDecided(stratum_label=seat.label, cohort=seat.number, decisions=decided))
        for line in decided:
            trial = self._state.trials[line.trial_id]
            self._take(trial, seat, line)
            if trial.refused is not None and trial.state == "paused":
                self._prune(trial, trial.refused)
            self.update(trial)

    def _take(self, trial: TrialState, seat: CohortState, line: TrialDecided) -> None:
        if line.action in ("continue", "promote", "keep"):
            seat.passed[trial.trial_id] = line.rung + 1
            seat.held.pop(trial.trial_id, None)
            if trial.state == "paused" and len(trial.reached) == line.rung + 1:
                trial.is_kept = line.action == "keep"
                self._state.move(trial, "promoted")
        else:
            seat.held[trial.trial_id] = line.reason
            if line.action == "stop":
                trial.refused = line.reason

    def _prune(self, trial: TrialState, reason: str) -> None:
        """Ends a trial that waits, unless another cohort may still have it go on."""
        if all(seat.is_over or trial.refused is not None for seat in trial.seats):
            self._close(trial, "pruned", reason)

    def _is_complete(self, seat: CohortState) -> bool:
        if self._scheduler.synchronous:
            return True
        strata = self._state.strata
        return not any(s.may_draw for s in (strata.values() if seat.label == _STUDY else [strata[seat.label]]))

    def _seat(self, trial: TrialState, seat: CohortState) -> None:
        if seat not in trial.seats:
            trial.seats.append(seat)
            self.update(trial)

    def _open_all(self) -> None:
        strata = self._state.strata
        if self._scheduler.scope == "study":
            size = sum(stratum.plan.num_configurations for stratum in strata.values())
            self._new(_STUDY, 0, size, max((s.plan.horizon for s in strata.values()), key=lambda h: h.max_epochs), 0)
            return
        for stratum in strata.values():
            cohort = self._new(stratum.label, 0, stratum.plan.num_configurations, stratum.plan.horizon, 0)
            stratum.cohorts.append(cohort)

    def _new(
        self, label: str, number: int, size: int, horizon: Horizon, first: int, earlier: Sequence[Cohort] = ()
    ) -> CohortState:
        cohort = CohortState(label, number, Cohort(size, horizon, first, self._repeats, earlier))
        self._cohorts[label, number] = cohort
        return cohort
