"""What the planner knows of trials, strata and cohorts, with the indexes that keep 10,000 trials fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from crossover.platform.execution.decisions import Suggested
from crossover.platform.search.plan import Outcome, StratumPlan
from crossover.platform.search.schedulers import Cohort, Reached, Standing
from crossover.search_spaces import Scalar

__all__ = ["CohortState", "State", "StratumState", "StudyState", "TrialState"]

State = Literal["waiting", "running", "interrupted", "paused", "promoted", "ended"]

_SEEN: dict[State, Literal["waiting", "running", "paused", "ended"]] = {
    "waiting": "waiting",
    "running": "running",
    "interrupted": "waiting",
    "promoted": "waiting",
    "paused": "paused",
    "ended": "ended",
}


@dataclass(eq=False)
class CohortState:
    """A cohort, and what was decided in it.

    Args:
        label: of its stratum; of the whole study: empty.
        number: of the cohort within its stratum.
        cohort: what the scheduler sees.
    """

    label: str
    number: int
    cohort: Cohort
    passed: dict[str, int] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    is_over: bool = False


@dataclass(eq=False)
class TrialState:
    """One trial."""

    suggested: Suggested
    max_tokens: int
    places: dict[tuple[str, int], None] = field(default_factory=dict)  # each configuration that it repeats
    seats: list[CohortState] = field(default_factory=list)
    state: State = "waiting"
    legs: int = 0
    reached: list[Reached] = field(default_factory=list)
    failures: int = 0
    error: str | None = None
    outcome: Outcome = field(default_factory=lambda: Outcome(False, None))
    is_kept: bool = False  # its promotion comes after everything else
    refused: str | None = None  # a decision to stop it was taken, and its end not written

    @property
    def trial_id(self) -> str:
        """Its identity."""
        return self.suggested.trial_id

    def standing(self, seat: CohortState) -> Standing:
        """How a cohort sees it."""
        line, outcome = self.suggested, self.outcome
        return Standing(
            trial_id=line.trial_id,
            stratum=line.stratum_label,
            number=line.number,
            repeat=line.repeat,
            config_hash=line.config_hash,
            state=_SEEN[self.state],
            value=outcome.value,
            reached=tuple(self.reached),
            passed=seat.passed.get(line.trial_id, 0),
            held=seat.held.get(line.trial_id),
            failed=outcome.reason in ("failed", "diverged"),
            complete=outcome.reason in ("completed", "overfit", "plateau"),
            flops=outcome.flops,
            max_tokens=self.max_tokens,
            curve=outcome.curve,
        )


@dataclass(eq=False)
class StratumState:
    """One stratum."""

    plan: StratumPlan
    configurations: dict[int, dict[int, str]] = field(default_factory=dict)  # number -> repeat -> trial id
    settings: dict[int, Mapping[str, Scalar]] = field(default_factory=dict)
    first_trials: set[str] = field(default_factory=set)
    told: set[int] = field(default_factory=set)
    cohorts: list[CohortState] = field(default_factory=list)
    drawn: int = 0  # configurations in cohorts
    waiting: dict[str, None] = field(default_factory=dict)  # trials that never started
    started: int = 0
    unended: set[tuple[int, int]] = field(default_factory=set)  # number and repeat of the search's trials
    best: int | None = None  # once the search is over
    exhausted: bool = False
    stopped: str | None = None  # why it may cost no more

    @property
    def label(self) -> str:
        """Unique among the strata."""
        return self.plan.label

    @property
    def is_open(self) -> bool:
        """More configurations are wanted."""
        return len(self.configurations) < self.plan.num_configurations and not self.exhausted

    @property
    def may_draw(self) -> bool:
        """More configurations are wanted, and paid for."""
        return self.is_open and self.stopped is None

    @property
    def is_between_cohorts(self) -> bool:
        """Nothing of an earlier cohort can change what is known."""
        return all(cohort.is_over for cohort in self.cohorts[-1:]) and len(self.told) >= self.drawn


class StudyState:
    """All trials, by id and by state."""

    def __init__(self, strata: Iterable[StratumPlan], repeats: int) -> None:
        self.strata = {plan.label: StratumState(plan) for plan in strata}
        self.trials: dict[str, TrialState] = {}
        self._repeats = repeats
        self._by_state: dict[State, dict[str, TrialState]] = {
            "waiting": {},
            "running": {},
            "interrupted": {},
            "paused": {},
            "promoted": {},
            "ended": {},
        }

    def of(self, state: State) -> Mapping[str, TrialState]:
        """Trials in a state, in the order in which they came to it."""
        return self._by_state[state]

    def add(self, line: Suggested) -> TrialState:
        """Takes up a trial. Two strata can ask for the very same one: it runs once and counts in both."""
        stratum = self.strata[line.stratum_label]
        if line.number not in stratum.configurations:
            stratum.configurations[line.number] = {}
            stratum.settings[line.number] = line.settings
            stratum.plan.searcher.observe(line.number, line.settings)
        stratum.configurations[line.number][line.repeat] = line.trial_id
        if line.repeat == 0:
            stratum.first_trials.add(line.trial_id)
        trial = self.trials.get(line.trial_id)
        if trial is None:
            trial = self.trials[line.trial_id] = TrialState(line, stratum.plan.max_tokens(line.settings))
        trial.places.setdefault((line.stratum_label, line.number))
        self.move(trial, trial.state)
        return trial

    def move(self, trial: TrialState, state: State) -> None:
        """Changes a trial's state, and every index with it."""
        trial_id, line = trial.trial_id, trial.suggested
        self._by_state[trial.state].pop(trial_id, None)
        trial.state = state
        self._by_state[state][trial_id] = trial
        waiting = self.strata[line.stratum_label].waiting
        if state == "waiting":
            waiting.setdefault(trial_id)
        else:
            waiting.pop(trial_id, None)
        if line.repeat < self._repeats:
            for label, number in trial.places:
                change = self.strata[label].unended.discard if state == "ended" else self.strata[label].unended.add
                change((number, line.repeat))

    def are_over(self, trial_ids: Iterable[str]) -> bool:
        """Whether all of these have ended."""
        return all(self.trials[trial_id].state == "ended" for trial_id in trial_ids)

    def mean(self, trial_ids: Iterable[str]) -> float | None:
        """Mean best value of those that have one."""
        values = [value for trial_id in trial_ids if (value := self.trials[trial_id].outcome.value) is not None]
        return fmean(values) if values else None

    def is_stopped(self, trial: TrialState) -> bool:
        """Whether every stratum that asks for a trial may cost no more."""
        return all(self.strata[label].stopped is not None for label, _ in trial.places)
