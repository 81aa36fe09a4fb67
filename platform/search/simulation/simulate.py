"""One study in virtual time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from crossover.platform.execution.decisions import Decision, Suggested
from crossover.platform.search.plan import Leg
from crossover.platform.search.planner import Planner
from crossover.platform.search.simulation.slots import Clock, Slots
from crossover.platform.search.simulation.trial import SimulatedTrial
from crossover.platform.search.simulation.world import DATA_HASH, SimulatedResults, World
from crossover.platform.search.study_plan import budget_of, plan_of
from crossover.platform.study import Study
from crossover.trainers.rows import Evaluation, StopReason

__all__ = ["Key", "SimulatedStudy", "simulate"]

Key = tuple[str, int]
"""Stratum and number of a configuration."""


@dataclass
class SimulatedStudy:
    """What a study did.

    Args:
        log: every decision, as a real study writes it.
        trials: those that ran, by id.
        ends: why each trial ended.
        path: after each new best of a configuration: FLOPs spent by then, the configuration, its value.
        flops: of everything that ran.
        seconds: virtual time from start to end.
        stopped: why the budget ended it; None: it did not.
    """

    log: list[Decision]
    trials: Mapping[str, SimulatedTrial]
    ends: Mapping[str, StopReason]
    path: list[tuple[float, Key, float]] = field(default_factory=list)
    flops: float = 0.0
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def searched(self) -> list[Suggested]:
        """Trials of the search, without repeats of what was chosen."""
        return [line for line in self.log if isinstance(line, Suggested) and line.purpose == "search"]


def simulate(study: Study, world: World, slots: int = 8, flops_per_second: float = 1e14) -> SimulatedStudy:
    """Runs a study in virtual time.

    Args:
        study: what to run; nothing of its corpus is read.
        world: its trials.
        slots: trials at once.
        flops_per_second: of each slot.
    """
    clock, results, log = Clock(), SimulatedResults(), list[Decision]()
    budget = budget_of(study)
    budget.now, budget.started = clock.now, clock.now()
    planner = Planner(plan_of(study, DATA_HASH), results, log.append, slots=slots, budget=budget)
    lines = dict[str, Suggested]()

    def trial_of(leg: Leg) -> SimulatedTrial:
        if leg.trial_id not in results.trials:
            lines[leg.trial_id] = leg.suggested
            results.trials[leg.trial_id] = world.trial(leg.suggested)
        return results.trials[leg.trial_id]

    done = SimulatedStudy(log, results.trials, {})
    best = _Bests(study.search.repeats)

    def look(trial: SimulatedTrial, _: Evaluation) -> None:
        if (found := best.look(lines[trial.trial_id], trial.best)) is not None:
            done.path.append((loop.busy_flops, *found))

    loop = Slots(planner, budget, clock, trial_of, look, flops_per_second)
    loop.run()
    done.ends, done.flops, done.seconds = results.ends(), loop.busy_flops, clock.seconds
    done.stopped = loop.stop_reason or planner.spent
    return done


@dataclass
class _Bests:
    """The best mean of a configuration's repeats so far."""

    repeats: int
    values: dict[Key, dict[int, float]] = field(default_factory=dict)
    best: float = math.inf

    def look(self, line: Suggested, value: float | None) -> tuple[Key, float] | None:
        """A configuration that is the new best, with its value, or None."""
        if value is None or line.repeat >= self.repeats:
            return None
        key = line.stratum_label, line.number
        known = self.values.setdefault(key, {})
        known[line.repeat] = value
        if len(known) < self.repeats or (mean := fmean(known.values())) >= self.best:
            return None
        self.best = mean
        return key, mean
