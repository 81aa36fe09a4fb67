"""Time of a decision in a study of 10,000 trials: everything that the planner does between two legs, and a restart."""

from __future__ import annotations

import argparse
import sys
import time
from functools import cache
from pathlib import Path

from harness import Goal, publish, seconds_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "platform" / "search"))

from paper_studies import AXES, Paper, PaperResults

from crossover.platform.execution.decisions import LegStarted
from crossover.platform.search.plan import Finished, Leg, Outcome

NUM_TRIALS = 10_000
DECISION_SECONDS = 5e-3
RULES = ("cohort_halving", "patient_halving", "hyperband", "median", "asynchronous_halving", "asha", "none")


class KnownResults(PaperResults):
    """What a record says is looked up once for every place where a trial stands."""

    def outcome(self, trial_id: str) -> Outcome:
        return self._known(trial_id, self.seen.get(trial_id, 0), self.ends.get(trial_id) is None)

    @cache  # noqa: B019 - as long as the benchmark
    def _known(self, trial_id: str, seen: int, runs: bool) -> Outcome:
        return super().outcome(trial_id)

    __hash__ = object.__hash__


def measured(rule: str, num_trials: int) -> dict[str, float | str]:
    """One study, undisturbed: seconds in the planner, a leg; the longest of its calls; and of a restart."""
    paper = Paper(scheduler=rule, axes={"rate": AXES["rate"]}, trials=num_trials, slots=8)
    paper.results = KnownResults(paper.horizon)
    planner, live, total, longest = paper.planner(), list[Leg](), 0.0, 0.0
    while True:
        begin = time.perf_counter()
        leg = planner.next_leg()
        taken = time.perf_counter() - begin
        if isinstance(leg, Leg):
            live.append(leg)
        elif isinstance(leg, Finished):
            break
        else:
            done = live.pop(0)
            status = paper.results.train(done)
            paper.results.outcome(done.trial_id)
            begin = time.perf_counter()
            planner.leg_ended(done.trial_id, status)  # type: ignore[arg-type]
            taken += time.perf_counter() - begin
        total, longest = total + taken, max(longest, taken)
    legs = sum(isinstance(line, LegStarted) for line in paper.log)
    return {
        "scheduler": rule,
        "trials": num_trials,
        "legs": legs,
        "ms a leg": 1e3 * total / legs,
        "longest, s": longest,
        "restart, s": seconds_of(paper.planner),
    }


def main() -> None:
    """Every rule in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    trials = parser.parse_args().trials
    rows = [measured(rule, trials) for rule in RULES]
    goals = [
        Goal(f"{row['scheduler']}: seconds a decision", float(row["ms a leg"]) / 1e3, at_most=DECISION_SECONDS)
        for row in rows
    ]
    publish("scheduler_decisions", rows, goals)


if __name__ == "__main__":
    main()
