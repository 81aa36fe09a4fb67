"""Which leg runs next. Pure Python: Ray asks through `tune_searcher.py`, tests drive it by hand.

The planner holds nothing that cannot be rebuilt: from the decisions already written and from the trials' own records
it comes to the same state in a new process, so a study goes on wherever it was when its driver died.

Order: a trial that was interrupted, a promotion, a trial that waits, a new configuration (of the stratum that has the
fewest, so all strata advance together), repeats of the best configuration of a stratum whose search is over, nothing
more. Only one leg of a trial lives at a time, and never more legs than slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from crossover.platform.execution.decisions import Decision, LegEnded, LegStarted, Suggested
from crossover.platform.search.plan import Finished, Leg, LegStatus, Outcome, Plan, Results, StratumPlan, Wait
from crossover.platform.search.schedulers import Standing
from crossover.search_spaces import Scalar

__all__ = ["MAX_FAILURES", "Planner"]

MAX_FAILURES = 1
"""How often a trial is tried again after a failure, from its newest checkpoint."""

_DRAWS = 2_000  # before a stratum counts as having no more; the last of 100 points is missed once in 2 * 10^8

State = Literal["waiting", "running", "interrupted", "paused", "promoted", "ended"]


@dataclass
class _Trial:
    suggested: Suggested
    places: set[tuple[str, int]] = field(default_factory=set)  # stratum and number of each configuration it repeats
    state: State = "waiting"
    legs: int = 0
    rungs: int = 0
    failures: int = 0
    error: str | None = None
    value: float | None = None


@dataclass
class _Stratum:
    plan: StratumPlan
    configurations: dict[int, dict[int, str]] = field(default_factory=dict)  # number -> repeat -> trial id
    settings: dict[int, Mapping[str, Scalar]] = field(default_factory=dict)
    first_trials: set[str] = field(default_factory=set)
    told: set[int] = field(default_factory=set)
    exhausted: bool = False

    @property
    def is_open(self) -> bool:
        return not self.exhausted and len(self.configurations) < self.plan.num_configurations


class Planner:
    """Decides the next leg.

    Args:
        plan: what the study asks.
        results: the trials' records.
        log: writes a decision down before it takes effect.
        slots: legs that fit at once.
        history: decisions of earlier attempts, oldest first.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        log: Callable[[Decision], None],
        *,
        slots: int,
        history: Iterable[Decision] = (),
    ) -> None:
        self._plan = plan
        self._results = results
        self._log = log
        self.slots = slots
        self._strata = {stratum.label: _Stratum(stratum) for stratum in plan.strata}
        self._trials: dict[str, _Trial] = {}
        self._stopped = False
        self._replay(history)

    @property
    def live(self) -> tuple[str, ...]:
        """Trials that have a leg now."""
        return tuple(trial_id for trial_id, trial in self._trials.items() if trial.state == "running")

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Trials that were made and have not ended."""
        return tuple(trial_id for trial_id, trial in self._trials.items() if trial.state != "ended")

    @property
    def has_work(self) -> bool:
        """Whether a leg could start, had it a slot and nobody stopped the planner."""
        ready = any(trial.state in ("interrupted", "promoted", "waiting") for trial in self._trials.values())
        return ready or any(self._is_wanting(stratum) for stratum in self._strata.values())

    def next_leg(self) -> Leg | Wait | Finished:
        """The leg to start now; it counts as running from here on."""
        if len(self.live) >= self.slots:
            return Wait()
        trial = None if self._stopped else self._next_trial()
        if trial is not None:
            return self._start(trial)
        return Wait() if self.live else Finished()

    def leg_ended(self, trial_id: str, status: LegStatus, error: str | None = None) -> None:
        """A leg gave its worker back."""
        trial, outcome = self._trials[trial_id], self._results.outcome(trial_id)
        if status == "ended" and not outcome.ended:
            status, error = "failed", "the trial returned without writing its end"
        self._log(LegEnded(trial_id=trial_id, leg=trial.legs, status=status, error=error))
        self._note_end(trial, status, error)
        self._settle(trial, outcome)
        for label in sorted({label for label, _ in trial.places}):
            self._decide_cohort(self._strata[label])

    def stop(self) -> None:
        """No new legs from here on; what runs is left to end."""
        self._stopped = True

    # The state of the trials -----------------------------------------------------------------------------------------

    def _replay(self, history: Iterable[Decision]) -> None:
        for line in history:
            if isinstance(line, Suggested):
                if line.stratum_label in self._strata:
                    self._add(line)
            elif isinstance(line, LegStarted | LegEnded) and line.trial_id in self._trials:
                self._replay_leg(self._trials[line.trial_id], line)
        for trial in self._trials.values():
            self._settle(trial)
        for stratum in self._strata.values():
            self._decide_cohort(stratum)

    def _replay_leg(self, trial: _Trial, line: LegStarted | LegEnded) -> None:
        if isinstance(line, LegStarted):
            trial.legs, trial.state = line.leg, "interrupted"  # unless its end follows
        else:
            self._note_end(trial, line.status, line.error)

    def _note_end(self, trial: _Trial, status: LegStatus, error: str | None) -> None:
        trial.state = "interrupted" if status == "failed" else status  # a failed trial goes on until it is given up
        trial.rungs += status == "paused"
        if status == "failed":
            trial.failures += 1
            trial.error = error

    def _settle(self, trial: _Trial, outcome: Outcome | None = None) -> None:
        """Brings a trial in line with its record, which is the truth, and gives up one that failed too often."""
        trial_id = trial.suggested.trial_id
        outcome = outcome or self._results.outcome(trial_id)
        if not outcome.ended and trial.failures > MAX_FAILURES:
            self._results.close(trial_id, "failed", trial.error or "it failed")
            outcome = self._results.outcome(trial_id)
        trial.value = outcome.value
        if outcome.ended:
            trial.state = "ended"
        elif trial.state == "ended":
            trial.state = "interrupted"
        for label, number in trial.places:
            self._tell(self._strata[label], number)

    def _tell(self, stratum: _Stratum, number: int) -> None:
        repeats = stratum.configurations[number]
        if number not in stratum.told and len(repeats) >= self._plan.repeats and self._over(repeats.values()):
            stratum.told.add(number)
            stratum.plan.searcher.tell(number, self._mean(repeats.values()))

    def _over(self, trial_ids: Iterable[str]) -> bool:
        return all(self._trials[trial_id].state == "ended" for trial_id in trial_ids)

    def _mean(self, trial_ids: Iterable[str]) -> float | None:
        values = [value for trial_id in trial_ids if (value := self._trials[trial_id].value) is not None]
        return fmean(values) if values else None

    # What comes next -------------------------------------------------------------------------------------------------

    def _next_trial(self) -> _Trial | None:
        for state in ("interrupted", "promoted", "waiting"):
            for trial in self._trials.values():
                if trial.state == state:
                    return trial
        while self._suggest() or self._confirm():
            for trial in self._trials.values():
                if trial.state == "waiting":
                    return trial
        return None

    def _start(self, trial: _Trial) -> Leg:
        trial.legs += 1
        trial.state = "running"
        self._log(LegStarted(trial_id=trial.suggested.trial_id, leg=trial.legs))
        return Leg(trial.suggested, trial.legs, self._plan.scheduler.until_tokens(trial.rungs))

    def _suggest(self) -> bool:
        """Makes the trials of one new configuration; False where there is none to make."""
        for stratum in self._strata.values():  # a kill between the lines of one configuration leaves it incomplete
            for number, repeats in stratum.configurations.items():
                if len(repeats) < self._plan.repeats:
                    return self._complete(stratum, number, self._plan.repeats, "search")
        candidates = [stratum for stratum in self._strata.values() if stratum.is_open]
        for stratum in sorted(candidates, key=lambda s: len(s.configurations)):
            settings = self._draw(stratum)
            if settings is not None:
                number = len(stratum.configurations)
                stratum.settings[number] = settings
                return self._complete(stratum, number, self._plan.repeats, "search")
            # A sampler that has nothing to suggest may have more once what runs has a result.
            stratum.exhausted = len(stratum.told) == len(stratum.configurations)
        return False

    def _is_wanting(self, stratum: _Stratum) -> bool:
        if stratum.is_open or any(len(repeats) < self._plan.repeats for repeats in stratum.configurations.values()):
            return True
        best = self._best(stratum)
        return best is not None and len(stratum.configurations[best]) < self._plan.final_repeats

    def _draw(self, stratum: _Stratum) -> Mapping[str, Scalar] | None:
        for attempt in range(_DRAWS):
            settings = stratum.plan.searcher.suggest(len(stratum.configurations), attempt)
            if settings is None:
                return None
            if stratum.plan.identify(settings, 0)[0] not in stratum.first_trials:
                return settings
        return None

    def _confirm(self) -> bool:
        """Makes further repeats of the best configuration of a stratum whose search is over."""
        for stratum in self._strata.values():
            best = self._best(stratum)
            if best is not None and len(stratum.configurations[best]) < self._plan.final_repeats:
                return self._complete(stratum, best, self._plan.final_repeats, "confirm")
        return False

    def _best(self, stratum: _Stratum) -> int | None:
        """Number of the best configuration on validation; the earliest of equals. None while the search goes on.

        Only the seeds of the search count, so that the choice stands whatever its confirmation brings.
        """
        if stratum.is_open:
            return None
        searched = {
            number: [trial_id for repeat, trial_id in repeats.items() if repeat < self._plan.repeats]
            for number, repeats in stratum.configurations.items()
        }
        if not all(self._over(trial_ids) for trial_ids in searched.values()):
            return None
        means = [(mean, number) for number, ids in searched.items() if (mean := self._mean(ids)) is not None]
        return min(means)[1] if means else None

    def _complete(
        self, stratum: _Stratum, number: int, wanted: int, purpose: Literal["search", "confirm"]
    ) -> Literal[True]:
        settings = stratum.settings[number]
        for repeat in range(wanted):
            if repeat in stratum.configurations.get(number, {}):
                continue
            trial_id, config_hash = stratum.plan.identify(settings, repeat)
            line = Suggested(
                trial_id=trial_id,
                number=number,
                stratum=dict(stratum.plan.settings),
                stratum_label=stratum.plan.label,
                settings=dict(settings),
                repeat=repeat,
                config_hash=config_hash,
                purpose=purpose,
            )
            self._log(line)
            self._settle(self._add(line))
        return True

    def _add(self, line: Suggested) -> _Trial:
        """Takes up a trial. Two strata can ask for the very same one: it runs once and counts in both."""
        stratum = self._strata[line.stratum_label]
        if line.number not in stratum.configurations:
            stratum.configurations[line.number] = {}
            stratum.settings[line.number] = line.settings
            stratum.plan.searcher.observe(line.number, line.settings)
        stratum.configurations[line.number][line.repeat] = line.trial_id
        if line.repeat == 0:
            stratum.first_trials.add(line.trial_id)
        trial = self._trials.setdefault(line.trial_id, _Trial(line))
        trial.places.add((line.stratum_label, line.number))
        return trial

    # Rungs -----------------------------------------------------------------------------------------------------------

    def _decide_cohort(self, stratum: _Stratum) -> None:
        cohort = [
            self._standing(self._trials[trial_id], number, repeat)
            for number, repeats in stratum.configurations.items()
            for repeat, trial_id in repeats.items()
        ]
        if not any(standing.state == "paused" for standing in cohort):
            return
        for decision in self._plan.scheduler.decide(cohort):
            trial = self._trials[decision.trial_id]
            if trial.state != "paused":
                continue
            if decision.action == "stop":
                self._results.close(decision.trial_id, "pruned", decision.reason)
                self._settle(trial)
            elif decision.action in ("continue", "promote"):
                trial.state = "promoted"

    def _standing(self, trial: _Trial, number: int, repeat: int) -> Standing:
        seen: dict[State, Literal["waiting", "running", "paused", "ended"]] = {
            "waiting": "waiting",
            "running": "running",
            "interrupted": "waiting",
            "promoted": "waiting",
            "paused": "paused",
            "ended": "ended",
        }
        value = trial.value if trial.value is None or math.isfinite(trial.value) else None
        return Standing(trial.suggested.trial_id, number, repeat, trial.rungs, value, seen[trial.state])
