"""A real study under patience and the same one without a scheduler: the same answer, and what each of them spent.

The trials are the same ones (random search, one seed): what the reference trains to the end, the others halve.
Both are resumable: the same command goes on where it was cut off, and a finished study is not run again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from harness import OUTPUT, Goal, publish

from crossover.platform.analysis import load_study

STUDY: dict[str, Any] = {
    "data": {"corpus": "python-stdlib", "unique_tokens": 4_096, "sequence_length": 128, "seed": 0},
    "fixed": {
        "model.size": "100k",
        "schedule.batch_size": 8,
        "optimizer.name": "muon",
        "evaluation.first_epoch": 0.5,
        "evaluation.ratio": 1.3,
        "evaluation.validation_windows": 48,
        "evaluation.test_windows": 64,
    },
    "axes": {
        "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        "optimizer.weight_decay": {"log_uniform": [0.1, 1.6], "role": "nuisance"},
        "regularization.dropout": {"choice": [0.0, 0.1, 0.2], "role": "nuisance"},
    },
    "stopping": {"rule": "overfit", "patience": 3},
}
RULES: dict[str, dict[str, Any]] = {
    "patient-halving": {"scheduler": "patient_halving"},
    "less-patient-halving": {"scheduler": "patient_halving", "patience_fraction": 0.5},
    "cohort-halving": {"scheduler": "cohort_halving"},
    "none": {"scheduler": "none"},
}


def run(rule: str, folder: Path, epochs: float, trials: int) -> dict[str, Any]:
    """One study, in a process of its own: what it spent, and the best configuration of each stratum."""
    name = f"confirmed-{rule}"
    document = {"name": name, **STUDY, "search": {"sampler": "random", "trials": trials, **RULES[rule]}}
    document["fixed"] = {**STUDY["fixed"], "schedule.epochs": epochs}
    file = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document))
    environment = {"RAY_AUTH_MODE": "disabled", **os.environ}
    command = [str(Path(sys.executable).with_name("crossover")), "run", str(file), "--storage", str(folder)]
    subprocess.run(command, check=True, env=environment)
    trials_table = load_study(folder / name).trials.to_pandas()
    best = trials_table.loc[trials_table.groupby("stratum")["best_bits_per_byte"].idxmin()]
    return {
        "scheduler": rule,
        "trials": len(trials_table),
        "FLOPs": float((trials_table["train_flops"] + trials_table["eval_flops"]).sum()),
        "best bits per byte": float(best["best_bits_per_byte"].min()),
        "chosen": " ".join(f"{row.stratum}:{row.config_hash[:6]}" for row in best.itertuples()),
    }


def main() -> None:
    """The study under each rule, the reference last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=54.0)
    parser.add_argument("--trials", type=int, default=18, help="configurations of each objective")
    parser.add_argument("--folder", type=Path, default=OUTPUT / "confirmed_search")
    arguments = parser.parse_args()
    rows = [run(rule, arguments.folder, arguments.epochs, arguments.trials) for rule in RULES]
    reference = rows[-1]
    goals = []
    for row in rows[:-1]:
        same = float(row["chosen"] == reference["chosen"])
        goals.append(Goal(f"{row['scheduler']}: the same answer in every stratum", same, at_least=1))
        goals.append(Goal(f"{row['scheduler']}: share of the FLOPs", row["FLOPs"] / reference["FLOPs"], at_most=1 / 3))
    publish("confirmed_search", rows, goals)


if __name__ == "__main__":
    main()
