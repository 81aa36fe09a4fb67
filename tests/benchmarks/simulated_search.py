"""Schedulers in virtual time: what they cost to find what training everything to the end finds, and what they lose.

One setting of one scheduler, patient_halving as it is by default, over all laws and over recorded curves; beside it
cohort halving and Ray's ASHA across objectives on the same seeds. Studies have 64, 128 and 256 trials in turn (8 more
of the recorded one, whose shared recipes are no search). Seeds below 10,000 were used while the scheduler was written:
these begin above.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import Goal, publish

from crossover.platform.search.simulation import Comparison, World, curves_named, simulate, simulate_seeds, summarize
from crossover.platform.study import Study, read_study
from crossover.platform.study.reading import study_of

FIRST_SEED = 10_000
RULES = ("patient_halving", "cohort_halving", "asha")
LAWS = ("data_constrained", "bounded", "double_descent", "annealed", "ordered")
RECORD = Path(__file__).resolve().parents[1] / "data" / "crossover-cpu-evaluations.parquet"
SIZES = (64, 128, 256)
STUDY: dict[str, Any] = {
    "name": "simulated",
    "data": {"corpus": "none", "unique_tokens": 100_000_000, "sequence_length": 1024},
    "fixed": {
        "model.size": "400M",
        "schedule.epochs": 500,
        "schedule.batch_size": 256,
        "evaluation.validation_windows": 4096,
        "evaluation.test_windows": 16384,
    },
    "axes": {
        "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        "optimizer.weight_decay": {"log_uniform": [0.03, 0.3], "role": "nuisance"},
        "regularization.dropout": {"choice": [0.0, 0.1], "role": "nuisance"},
    },
    "search": {"sampler": "random", "trials": 32, "scheduler": "patient_halving"},
}


def study_of_size(source: str, trials: int) -> Study:
    """The study of a law, or for recorded curves the one that was recorded,."""
    if source in LAWS:
        return study_of({**STUDY, "search": {**STUDY["search"], "trials": trials // 2}}, "simulated")
    overrides = ["search.sampler=random", "search.final_repeats=1", "search.scheduler=patient_halving"]
    return read_study("crossover-cpu", [*overrides, f"search.trials={trials // 8}"])


def one_seed(task: tuple[str, int]) -> list[Comparison]:
    """Every rule on one seed."""
    source, number = task
    study = study_of_size(source, SIZES[number % len(SIZES)])
    return list(simulate_seeds(study, curves_named(source), [FIRST_SEED + number], RULES))


def seconds_of_many(trials: int) -> float:
    """A study of so many trials with random search, from the first suggestion to the end."""
    search = {**STUDY["search"], "trials": trials // 2, "scheduler": "cohort_halving"}
    study = study_of({**STUDY, "search": search}, "simulated")
    begin = time.perf_counter()
    done = simulate(study, World(study, curves_named("data_constrained"), 0))
    assert len(done.ends) == trials
    return time.perf_counter() - begin


def rows_of(source: str, found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """One row a rule."""
    name = source if source in LAWS else "recorded"
    return [{"curves": name, **summary.row()} for summary in summarize(found)]


def goals_of(rows: Sequence[dict[str, Any]]) -> list[Goal]:
    """The targets, of the one scheduler."""
    goals = []
    for curves in dict.fromkeys(row["curves"] for row in rows):
        by_rule = {row["scheduler"]: row for row in rows if row["curves"] == curves}
        ours, asha = by_rule["patient_halving"], by_rule["asha"]
        goals.append(Goal(f"{curves}: FLOPs to within 0.5 %", ours["flops_within"] or 1.0, at_most=1 / 3))
        goals.append(Goal(f"{curves}: winners stopped", ours["winners_stopped"], at_most=0))
        goals.append(Goal(f"{curves}: lost by more than 0.5 %", ours["lost"], at_most=0))
        if curves == "ordered":
            ratio = (ours["flops_within"] or 1.0) / (asha["flops_within"] or 1.0)
            goals.append(Goal("ordered: FLOPs to within 0.5 % over ASHA's", ratio, at_most=1.1))
    return goals


def main() -> None:
    """Simulate every law, and time a large study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trials", type=int, default=10_000, help="of the large study")
    parser.add_argument("--curves", nargs="+", default=[*LAWS, str(RECORD)])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for source in arguments.curves:
            tasks = [(source, number) for number in range(arguments.seeds)]
            found = [c for comparisons in pool.imap(one_seed, tasks, chunksize=4) for c in comparisons]
            rows += rows_of(source, found)
            print(f"{source}: {arguments.seeds} seeds done", flush=True)
    large = seconds_of_many(arguments.trials)
    goals = [*goals_of(rows), Goal(f"seconds of {arguments.trials:,} trials", large, at_most=120)]
    publish("simulated_search", rows, goals)


if __name__ == "__main__":
    main()
