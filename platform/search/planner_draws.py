"""New trials: the next configurations of a stratum, and further seeds of its best one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from crossover.platform.execution.decisions import CohortDrawn, Decision, Suggested
from crossover.platform.search.plan import Plan
from crossover.platform.search.planner_cohorts import CohortKeeper
from crossover.platform.search.planner_state import StratumState, StudyState
from crossover.search_spaces import Scalar

__all__ = ["Drawer"]

_DRAWS = 2_000  # before a stratum counts as having no more; the last of 100 points is missed once in 2 * 10^8


class Drawer:
    """Makes trials.

    Args:
        plan: what the study asks.
        state: the trials there are.
        cohorts: their cohorts.
        log: writes a decision down before it takes effect.
        take_up: makes a trial of a suggestion.
    """

    def __init__(
        self,
        plan: Plan,
        state: StudyState,
        cohorts: CohortKeeper,
        log: Callable[[Decision], None],
        take_up: Callable[[Suggested], None],
    ) -> None:
        self._plan = plan
        self._state = state
        self._cohorts = cohorts
        self._log = log
        self._take_up = take_up
        self._incomplete: dict[tuple[str, int], None] = {}

    def after_replay(self) -> None:
        """Finds configurations that lack trials: a kill between the lines of one leaves it so."""
        self._incomplete = {
            (stratum.label, number): None
            for stratum in self._state.strata.values()
            for number, repeats in stratum.configurations.items()
            if len(repeats) < self._plan.repeats
        }

    def is_drawing(self) -> bool:
        """Nothing starts before what is to be drawn together is drawn, so that all strata begin together."""
        return bool(self._incomplete) or (self._cohorts.draws_sets and bool(self._strata_to_draw()))

    def suggest(self) -> bool:
        """Makes the trials of new configurations; False where there are none to make."""
        for label, number in list(self._incomplete):
            del self._incomplete[label, number]
            return self._complete(self._state.strata[label], number, self._plan.repeats, "search")
        if self._cohorts.draws_sets:
            return any(self._draw_cohort(stratum) for stratum in self._strata_to_draw())
        candidates = [stratum for stratum in self._state.strata.values() if stratum.may_draw]
        return any(self._draw(stratum) for stratum in sorted(candidates, key=lambda s: len(s.configurations)))

    def _strata_to_draw(self) -> list[StratumState]:
        return [s for s in self._state.strata.values() if s.may_draw and s.is_between_cohorts]

    def _draw_cohort(self, stratum: StratumState) -> bool:
        """Draws the next cohort of a stratum, or what is left of one whose drawing was cut off."""
        first = stratum.drawn
        wanted = min(first + stratum.plan.cohort_size, stratum.plan.num_configurations)
        while len(stratum.configurations) < wanted and self._draw(stratum):
            pass
        size = len(stratum.configurations) - first
        if size:
            line = CohortDrawn(stratum_label=stratum.label, number=len(stratum.cohorts), first=first, size=size)
            self._log(line)
            self._cohorts.drawn(line)
        return size > 0

    def _draw(self, stratum: StratumState) -> bool:
        settings = self._new_settings(stratum)
        if settings is None:
            # A sampler that has nothing to suggest may have more once what runs has a result.
            stratum.exhausted = len(stratum.told) == len(stratum.configurations)
            return False
        number = len(stratum.configurations)
        stratum.settings[number] = settings
        return self._complete(stratum, number, self._plan.repeats, "search")

    def _new_settings(self, stratum: StratumState) -> Mapping[str, Scalar] | None:
        for attempt in range(_DRAWS):
            settings = stratum.plan.searcher.suggest(len(stratum.configurations), attempt)
            if settings is None:
                return None
            if stratum.plan.identify(settings, 0)[0] not in stratum.first_trials:
                return settings
        return None

    def is_wanting(self, stratum: StratumState) -> bool:
        """Whether a stratum is to have more trials."""
        if stratum.is_open or any(label == stratum.label for label, _ in self._incomplete):
            return True
        best = self._best(stratum)
        return best is not None and len(stratum.configurations[best]) < self._plan.final_repeats

    def confirm(self) -> bool:
        """Makes further repeats of the best configuration of a stratum whose search is over."""
        for stratum in self._state.strata.values():
            best = self._best(stratum) if stratum.stopped is None else None
            if best is not None and len(stratum.configurations[best]) < self._plan.final_repeats:
                return self._complete(stratum, best, self._plan.final_repeats, "confirm")
        return False

    def _best(self, stratum: StratumState) -> int | None:
        """Number of the best configuration on validation; the earliest of equals. None while the search goes on.

        Only the seeds of the search count, so that the choice stands whatever its confirmation brings.
        """
        if stratum.is_open or stratum.unended:
            return None
        if stratum.best is None:
            searched = {
                number: [trial_id for repeat, trial_id in repeats.items() if repeat < self._plan.repeats]
                for number, repeats in stratum.configurations.items()
            }
            means = [(mean, n) for n, ids in searched.items() if (mean := self._state.mean(ids)) is not None]
            stratum.best = min(means)[1] if means else None
        return stratum.best

    def _complete(
        self, stratum: StratumState, number: int, wanted: int, purpose: Literal["search", "confirm"]
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
            self._take_up(line)
        return True
