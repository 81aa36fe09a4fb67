"""Time and size of the report of a study of many trials: read, answered, fitted, drawn and written.

Losses of windows are those of the chosen configurations alone: no other's are read.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Goal, publish, seconds_of
from made_study import DATA_HASH, make_study

from crossover.platform.analysis import load_study, write_report
from crossover.platform.analysis.selection import pairs_of_strata
from crossover.trainers.record import RecordPaths

SECONDS, MEGABYTES = 30.0, 10.0
NUM_ROWS, NUM_WINDOWS, NUM_TOKENS = 50, 256, 128


def write_windows(folder: Path) -> None:
    """Losses of windows, four a document, of the trials that comparisons read."""
    strata = [stratum for _, pair in pairs_of_strata(load_study(folder)) for stratum in pair.values()]
    whole = np.full(NUM_WINDOWS, NUM_TOKENS)
    facts = {"num_tokens": whole, "num_bytes": whole, "document": np.arange(NUM_WINDOWS) // 4}
    noise = np.random.default_rng(0).normal(0, 0.2, NUM_WINDOWS)
    for trial in (trial for stratum in strata if stratum.chosen for trial in stratum.chosen.trials):
        paths = RecordPaths(folder / "trials" / trial.suggestion.trial_id)
        paths.windows.mkdir()
        np.savez(
            paths.window_facts, **{f"{split}_{k}": v for split in ("validation", "test") for k, v in facts.items()}
        )
        for row in trial.evaluations:
            np.save(paths.window_nats(row.step), ((row.val_loss + noise) * NUM_TOKENS).astype(np.float32))
        np.save(paths.test_windows, ((trial.evaluations[-1].best_val_loss + noise) * NUM_TOKENS).astype(np.float32))


def main() -> None:
    """One page of each size of a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 10_000])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as temporary:
        for trials in arguments.trials:
            storage = Path(temporary, str(trials))
            make_study(storage, trials, NUM_ROWS, "made-up", DATA_HASH)
            write_windows(storage / "made")
            taken = seconds_of(lambda folder=storage / "made": write_report(folder))  # type: ignore[misc]
            size = (storage / "made" / "report.html").stat().st_size / 1e6
            rows.append({"trials": trials, "evaluations of each": NUM_ROWS, "seconds": taken, "megabytes": size})
            goals.append(Goal(f"seconds of {trials} trials", taken, at_most=SECONDS))
            goals.append(Goal(f"megabytes of {trials} trials", size, at_most=MEGABYTES))
    publish("large_report", rows, goals)


if __name__ == "__main__":
    main()
