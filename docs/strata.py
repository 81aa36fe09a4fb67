"""Draws the validation loss of every stratum of a study, and prints how far apart they are on test.

`python docs/strata.py STUDY OUTPUT.png`

Objectives side by side. A line is the mean over the seeds of the configuration that was chosen in a stratum, at the
epochs that all of them reached. Of a study with branched annealing its branches are drawn, and of runs of one length
their ends, as marks.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from crossover.platform.analysis import StudyTables, load_study
from crossover.platform.analysis.comparisons import mean_difference
from crossover.platform.analysis.losses import held_out_test_losses
from crossover.platform.analysis.selection import pairs_of_strata
from crossover.platform.analysis.wording import SHORT, without_objective

Curve = dict[float, list[float]]


def chosen_trials(study: StudyTables) -> list[dict[str, Any]]:
    """Rows of the trials of the configuration that was chosen on validation, of every stratum in the study's order."""
    strata = [stratum for _, pair in pairs_of_strata(study) for stratum in pair.values()]
    kept = {trial.suggestion.trial_id for s in strata if s.chosen is not None for trial in s.chosen.trials}
    rows = study.trials.to_pylist()
    order = list(dict.fromkeys(row["stratum"] for row in rows))
    return sorted((r for r in rows if r["trial_id"] in kept), key=lambda r: (order.index(r["stratum"]), r["repeat"]))


def curves_of(study: StudyTables) -> dict[str, dict[str, Curve]]:
    """Per objective and label, bits per byte of all seeds at each epoch."""
    trials = {row["trial_id"]: row for row in chosen_trials(study)}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in study.evaluations.to_pylist():
        rows[row["trial_id"]].append(row)
    found: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for trial_id, trial in trials.items():
        kept, label = rows[trial_id], without_objective(trial["stratum"]).replace("_", " ")
        if any(row["branch"] == "annealed" for row in kept):
            kept, label = [row for row in kept if row["branch"] == "annealed"], "branches of one run"
        elif "runs=separate" in trial["stratum"]:
            kept, label = kept[-1:], "runs of one length"
        for row in kept:
            found[trial["objective"]][label][row["epoch"]].append(row["val_bits_per_byte"])
    return found


def differences(study: StudyTables) -> Iterator[str]:
    """Every stratum minus every one before it, paired by seed and document: bits per byte on test, 95 % intervals."""
    seeds: dict[str, dict[int, str]] = defaultdict(dict)
    for row in chosen_trials(study):
        seeds[row["stratum"]][row["repeat"]] = row["trial_id"]
    for before, after in combinations(seeds, 2):
        losses = [
            [held_out_test_losses(study.files[trial]) for _, trial in sorted(seeds[name].items())]
            for name in (after, before)
        ]
        if all(one is not None for side in losses for one in side):
            found = mean_difference(*losses)  # type: ignore[arg-type]
            yield f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]  {after}  minus  {before}"


def main() -> None:
    """One panel an objective, one line a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="the study's folder")
    parser.add_argument("output", type=Path, help="the picture")
    arguments = parser.parse_args()
    study, output = load_study(arguments.study), arguments.output
    found = curves_of(study)
    print(*differences(study), sep="\n")
    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 4.6), layout="constrained", squeeze=False)
    for axis, (objective, curves) in zip(axes[0], sorted(found.items()), strict=True):
        for number, (label, curve) in enumerate(curves.items()):
            seeds = max(len(values) for values in curve.values())
            epochs = sorted(epoch for epoch, values in curve.items() if len(values) == seeds)
            means = [sum(curve[epoch]) / seeds for epoch in epochs]
            marks = {"linestyle": "none", "marker": "D"} if label == "runs of one length" else {"marker": "o"}
            axis.plot(epochs, means, color=f"C{number}", markersize=4, label=label, **marks)
        axis.set(xscale="log", xlabel="epochs over the unique tokens", ylabel="validation, bits per byte")
        axis.set_title(SHORT.get(objective, objective), loc="left", fontweight="bold")
        axis.minorticks_off()
        axis.set_xticks([3, 5, 10, 20, 50, 100], ["3", "5", "10", "20", "50", "100"])
        if "branches of one run" not in curves:  # a few points, all of them wanted
            best = min(sum(values) / len(values) for curve in curves.values() for values in curve.values())
            axis.set_ylim(best - 0.1, best + 1.8)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
