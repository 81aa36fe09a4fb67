"""Draws what tasks say beside the validation loss of one run: `python docs/downstream_gap.py RUN OUTPUT.png`.

The run is one of `crossover train` with `evaluation.tasks`; docs/findings.md has the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from crossover.platform.analysis.palette import LIGHT
from crossover.trainers.record import TrialRecord


def main() -> None:
    """Loss, gap and accuracy against epochs; the best of each is marked."""
    folder, output = (Path(argument) for argument in sys.argv[1:])
    rows = [row for row in TrialRecord(folder).evaluations() if row.task_gap is not None]
    epochs = [row.epoch for row in rows]
    panels = (
        ("validation loss, nats a token", "val_loss", "val_loss_se", min),
        ("gap, right to best wrong option, nats", "task_gap", "task_gap_se", max),
        ("accuracy", "task_accuracy", None, max),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.2), layout="constrained")
    for axis, (title, name, error, best) in zip(axes, panels, strict=True):
        values = [getattr(row, name) for row in rows]
        errors = None if error is None else [getattr(row, error) for row in rows]
        axis.errorbar(epochs, values, errors, color=LIGHT["autoregressive"], marker="o", markersize=3, capsize=2)
        axis.axvline(epochs[values.index(best(values))], color=LIGHT["text"], linewidth=0.8, linestyle=":")
        axis.set(xscale="log", xlabel="epochs over the unique tokens", title=title)
        axis.minorticks_off()
        axis.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
