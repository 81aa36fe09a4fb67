"""Large studies on the disk: reading 10,000 trials of 50 evaluations into tables, and resuming one of 1,000 trials.

A resume is what happens before Ray starts and after: the command on a finished study, as a process of its own with all
its imports, and the planner rebuilt with its first new suggestion, for which TPE is told of every trial.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from harness import Goal, medians_in_turn, publish, seconds_of
from made_study import make_study

from crossover.platform.analysis import load_study
from crossover.platform.execution.decisions import Decision, read_decisions
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.view import StudyView
from crossover.platform.search.plan import Leg
from crossover.platform.search.planner import Planner
from crossover.platform.search.study_plan import plan_of
from crossover.platform.study import Study
from crossover.trainers.data import prepare_corpus

READ_SECONDS, RESUME_SECONDS = 5.0, 10.0
NUM_ROWS = 50


def corpus(folder: Path) -> tuple[str, str]:
    """A small corpus of made-up words: its folder and its hash."""
    (folder / "text").mkdir()
    for number in range(60):
        (folder / "text" / f"{number}.txt").write_text(f"words of document {number} " * 400)
    manifest = prepare_corpus([folder / "text"], folder / "corpus")
    return str(folder / "corpus"), manifest.content_hash


def run_command(study: Study, storage: Path) -> None:
    """`crossover run` on a study that has nothing left to do."""
    file = storage / "study.yaml"
    file.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_unset=True)))
    command = [str(Path(sys.executable).with_name("crossover")), "run", str(file), "--storage", str(storage)]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "is finished" in done.stdout, done.stdout


def plan_on(study: Study, folder: Path, data_hash: str) -> None:
    """The state of an attempt that is to make one trial more in every stratum, and that trial."""
    more = study.model_copy(
        update={"search": study.search.model_copy(update={"trials": (study.search.trials or 0) + 1})}
    )
    decisions, log = read_decisions(folder), list[Decision]()
    StudyView.of(more).replay(decisions, folder, driver_alive=False)
    plan = plan_of(more, data_hash)
    planner = Planner(plan, RecordResults(folder), log.append, slots=1, history=decisions)
    assert isinstance(planner.next_leg(), Leg)


def main() -> None:
    """Both, each on a study made for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="of the study that is read")
    parser.add_argument("--resumed", type=int, default=1_000, help="of the study that is resumed")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name, data_hash = corpus(folder)
        rows: list[dict[str, Any]] = []
        made = seconds_of(lambda: make_study(folder / "read", arguments.trials, NUM_ROWS, name, data_hash))
        study = make_study(folder / "resumed", arguments.resumed, NUM_ROWS, name, data_hash, sampler="tpe")
        seconds = medians_in_turn(
            {
                "read into tables": lambda: load_study(folder / "read" / "made"),
                "crossover run, nothing left": lambda: run_command(study, folder / "resumed"),
                "planner and first suggestion": lambda: plan_on(study, folder / "resumed" / "made", data_hash),
            },
            arguments.repeats,
        )
        for what, taken in seconds.items():
            trials = arguments.trials if what.startswith("read") else arguments.resumed
            rows.append({"what": what, "trials": trials, "evaluations of each": NUM_ROWS, "seconds": taken})
        print(f"making the larger study took {made:.0f} s")
    read, command, planner = seconds.values()
    goals = [
        Goal(f"seconds to read {arguments.trials} trials", read, at_most=READ_SECONDS),
        Goal(f"seconds to resume {arguments.resumed} trials", command + planner, at_most=RESUME_SECONDS),
    ]
    publish("large_studies", rows, goals)


if __name__ == "__main__":
    main()
