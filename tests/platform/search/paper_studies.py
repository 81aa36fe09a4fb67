"""Studies on paper: the real planner and schedulers over trials that are curves, with legs that end as the dice say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crossover.platform.execution.decisions import (
    CohortDrawn,
    Decision,
    LegEnded,
    RungDecided,
    Suggested,
    TrialClosed,
)
from crossover.platform.search.budget import Budget
from crossover.platform.search.plan import Finished, Leg, Outcome, Plan
from crossover.platform.search.planner import Planner
from crossover.platform.search.rungs import Horizon
from crossover.platform.search.schedulers import CurvePoint, Scheduler, SchedulerSettings, get_scheduler
from crossover.platform.search.searchers import Searcher, make_searcher
from crossover.search_spaces import Axis, Scalar, Space, Stratum
from crossover.trainers.rows import StopReason

__all__ = ["Paper", "PaperResults", "drive", "uniform"]

AXES = {
    "objective.name": Axis(choice=("ar", "mdm"), role="scientific"),
    "rate": Axis(log_uniform=(1e-4, 1e-1), role="nuisance"),
}
UNFLUSHED = (Suggested, CohortDrawn, LegEnded, RungDecided, TrialClosed)
"""Lines that wait for the next one to be flushed: a machine that dies may lose those at the end."""


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on these parts alone."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def crossing_curve(trial_id: str, tokens: float) -> float:
    """Falls by a power law; what ends lowest is not what begins lowest."""
    floor, speed = 1 + uniform(trial_id, "floor"), 0.1 + 0.8 * uniform(trial_id, "speed")
    return floor + 2 * (tokens / 100) ** -speed


@dataclass
class PaperResults:
    """Records in memory: a trial is how far it came. An evaluation's value is a function of trial and tokens."""

    horizon: Horizon
    curve: Callable[[str, float], float] = crossing_curve
    stops_early: Callable[[str], float] = lambda trial_id: math.inf
    seen: dict[str, int] = field(default_factory=dict)
    ends: dict[str, tuple[StopReason, str]] = field(default_factory=dict)

    def evaluations(self, trial_id: str) -> list[CurvePoint]:
        horizon, points = self.horizon, []
        epochs = horizon.first_evaluation
        grid = []
        while epochs < horizon.max_epochs:
            grid.append(horizon.tokens(epochs))
            epochs *= horizon.evaluation_ratio
        for tokens in [*grid, horizon.tokens(horizon.max_epochs)]:
            value = self.curve(trial_id, tokens)
            if tokens <= self.seen.get(trial_id, 0) and math.isfinite(value):
                points.append(CurvePoint(tokens, value, 6.0 * tokens))
        return points

    def outcome(self, trial_id: str) -> Outcome:
        points, end = self.evaluations(trial_id), self.ends.get(trial_id)
        value = min((point.value for point in points), default=None)
        flops = points[-1].flops if points else 0.0
        return Outcome(end is not None, value, flops, None if end is None else end[0], points)

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        assert trial_id not in self.ends, "a trial ends once"
        self.ends[trial_id] = reason, evidence

    def train(self, leg: Leg, share: float = 1.0) -> str:
        """Goes on with a leg, to a share of what is left of it; says how it stands then."""
        trial_id, last = leg.trial_id, self.horizon.tokens(self.horizon.max_epochs)
        if trial_id in self.ends:
            return "ended"
        seen, stop = self.seen.get(trial_id, 0), math.ceil(min(last, self.stops_early(trial_id)))
        until = min(stop, leg.until_tokens or last)
        assert leg.until_tokens is None or leg.until_tokens >= seen, "nothing is trained twice, nothing is skipped"
        self.seen[trial_id] = seen + math.floor((until - seen) * share)
        if self.seen[trial_id] >= stop:
            self.ends[trial_id] = ("completed", "done") if stop == last else ("overfit", "it rose")
            return "ended"
        return "paused" if leg.until_tokens and self.seen[trial_id] >= leg.until_tokens else "interrupted"

    def table(self) -> dict[str, tuple[object, ...]]:
        """What the study's table says in the end."""
        return {
            trial_id: (self.ends[trial_id], self.seen.get(trial_id), self.outcome(trial_id).value)
            for trial_id in self.ends
        }


@dataclass
class PaperStratum:
    """One stratum of a space."""

    space: Space
    stratum: Stratum
    num_configurations: int
    cohort_size: int
    horizon: Horizon
    searcher: Searcher

    @property
    def label(self) -> str:
        return self.stratum.label

    @property
    def settings(self) -> Mapping[str, Scalar]:
        return self.stratum.settings

    def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
        everything = sorted({**self.stratum.settings, **settings}.items())
        return f"{everything}#{repeat}", f"{uniform(everything):.12f}"

    def max_tokens(self, settings: Mapping[str, Scalar]) -> int:
        return self.horizon.tokens(self.horizon.max_epochs)


@dataclass
class Paper:
    """A study on paper."""

    scheduler: str | Scheduler = "cohort_halving"
    axes: Mapping[str, Axis] = field(default_factory=lambda: AXES)
    trials: int = 9
    cohort: int | None = None
    repeats: int = 1
    final_repeats: int = 1
    slots: int = 2
    sampler: str = "random"
    settings: SchedulerSettings = field(default_factory=SchedulerSettings)
    horizon: Horizon = field(default_factory=lambda: Horizon(1_000, 27.0, 0.25, 1.25))
    budget: Budget | None = None
    log: list[Decision] = field(default_factory=list)
    results: PaperResults = field(init=False)

    def __post_init__(self) -> None:
        self.results = PaperResults(self.horizon)

    def plan(self) -> Plan:
        space = Space(self.axes)
        strata = [
            PaperStratum(
                space,
                stratum,
                self.trials,
                self.cohort or self.trials,
                self.horizon,
                make_searcher(
                    self.sampler,
                    lambda source, number, stratum=stratum: space.suggest(stratum, source, number),
                    (0, stratum.label),
                    self.trials,
                ),
            )
            for stratum in space.strata()
        ]
        scheduler = self.scheduler
        if isinstance(scheduler, str):
            scheduler = get_scheduler(scheduler, self.settings)
        return Plan(strata, scheduler, self.repeats, self.final_repeats)

    def planner(self) -> Planner:
        history = list(self.log)
        return Planner(
            self.plan(), self.results, self.log.append, slots=self.slots, history=history, budget=self.budget
        )

    def of(self, kind: type[Decision]) -> list[Decision]:
        return [line for line in self.log if isinstance(line, kind)]  # type: ignore[arg-type]

    def decisions(self) -> set[tuple[object, ...]]:
        """What was decided at rungs, whenever."""
        return {
            (line.stratum_label, line.cohort, one.rung, one.trial_id, one.action, one.reason)
            for line in self.log
            if isinstance(line, RungDecided)
            for one in line.decisions
        }

    def trial_ids(self) -> list[str]:
        return [line.trial_id for line in self.log if isinstance(line, Suggested)]

    def run(self) -> Paper:
        """To the end, undisturbed: the oldest leg ends first."""
        planner, live = self.planner(), list[Leg]()
        while not isinstance(leg := planner.next_leg(), Finished):
            if isinstance(leg, Leg):
                live.append(leg)
            else:
                done = live.pop(0)
                planner.leg_ended(done.trial_id, self.results.train(done))  # type: ignore[arg-type]
        assert not live
        return self


def drive(paper: Paper, choose: Callable[[int], int], kills: int) -> Paper:
    """To the end in some order, with interruptions, failures, and deaths of the driver or of everything at once."""
    planner, live, failed = paper.planner(), list[Leg](), set[str]()
    while True:
        event = choose(10)
        if event == 0 and kills:
            kills -= 1
            for leg in live:  # legs go on for a while before they too are gone
                paper.results.train(leg, choose(4) / 3)
            live = []
            lost = choose(5)
            while lost and paper.log and isinstance(paper.log[-1], UNFLUSHED):
                paper.log.pop()
                lost -= 1
            paper.slots = 1 + choose(4)
            planner = paper.planner()
        leg = planner.next_leg()
        if isinstance(leg, Finished):
            return paper
        if isinstance(leg, Leg):
            live.append(leg)
        if live and (not isinstance(leg, Leg) or event > 5):
            done = live.pop(choose(len(live)))
            if event == 1 and done.trial_id not in failed:
                failed.add(done.trial_id)
                paper.results.train(done, choose(3) / 3)
                planner.leg_ended(done.trial_id, "failed", "boom")
            else:
                share = choose(4) / 3 if event == 2 else 1.0
                planner.leg_ended(done.trial_id, paper.results.train(done, share))  # type: ignore[arg-type]
