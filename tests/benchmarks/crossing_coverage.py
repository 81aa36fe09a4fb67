"""How often intervals of fitted crossings hold the truth: the design of the public synthetic table, its noise redrawn.

Each redraw runs all that `crossover crossings` does: the joint fit, what families share by cross-validation, the
bootstrap, and the crossing of every draw. The truth is found on a dense grid of sizes, with no code of the project but
the law's formula.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from harness import Goal, publish
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "platform" / "analysis" / "scaling_laws"))

from law_tables import AR, MDM, made_losses, public_table, true_crossing

from crossover.platform.analysis.crossing.fitted import FittedPair
from crossover.platform.analysis.crossing.roles import Pair
from crossover.platform.analysis.scaling_laws import FitSettings, LossTable, fit_law, read_losses

NOISE, OUTLIER_SHARE, OUTLIER_NOISE = 0.004, 0.02, 0.06


def redrawn(table: LossTable, seed: int) -> LossTable:
    """The table's rows with losses of the true laws and noise of their own."""
    generator = np.random.default_rng([8, seed])
    loss = np.empty(table.num_rows)
    for family, values in (("ar", AR), ("dlm", MDM)):
        rows = table.family == family
        loss[rows] = made_losses("data-constrained", values, table.params[rows], table.tokens[rows], table.unique[rows])
    noise = generator.normal(0, NOISE, len(loss))
    outlier = generator.random(len(loss)) < OUTLIER_SHARE
    noise += np.where(outlier, generator.normal(0, OUTLIER_NOISE, len(loss)), 0.0)
    columns = {"N": table.params, "D": table.tokens, "U": table.unique, "family": table.family}
    return LossTable.of({**columns, "loss": loss * np.exp(noise)}, f"redraw {seed}")


def found(seed: int, table: LossTable, draws: int, share: str) -> NDArray[np.float64]:
    """Estimate, low and high end of every budget, [U, 3]; inf: none."""
    settings = FitSettings(
        law="data-constrained", share=share, num_draws=draws, held_out=False, profiles=False, seed=seed
    )
    pair = FittedPair(fit_law(redrawn(table, seed), settings), Pair("ar", "dlm"))
    rows = []
    for budget in pair.budgets:
        flops = pair.crossings(budget)[0][0].flops
        rows.append([np.inf if v is None else v for v in (flops.estimate, flops.low, flops.high)])
    return np.array(rows)


def main() -> None:
    """All redraws, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--share", default="auto")
    options = parser.parse_args()
    table = read_losses(public_table("synthetic_ar_dlm_dev.csv"))
    work = partial(found, table=table, draws=options.draws, share=options.share)
    done = []
    for number in range(options.redraws):
        done.append(work(number))
        print(f"\r{number + 1} of {options.redraws} redraws", end="", file=sys.stderr, flush=True)
    results = np.stack(done)
    rows, goals = [], []
    for place, budget in enumerate(np.unique(table.unique)):
        truth = true_crossing(AR, MDM, float(budget))
        estimate, low, high = results[:, place].T
        covered = float(((low <= truth) & (truth <= high)).mean())
        rows.append(
            {
                "unique tokens": float(budget),
                "true C": truth,
                "covered": covered,
                "median width": float(np.median(high / low)),
                "within 1.25": float((np.abs(np.log(estimate / truth)) < np.log(1.25)).mean()),
            }
        )
        goals.append(Goal(f"coverage at U = {budget:.0f}", covered, at_least=0.90))
        goals.append(Goal(f"coverage at U = {budget:.0f}", covered, at_most=0.98))
    publish("crossing_coverage", rows, goals)


if __name__ == "__main__":
    main()
