"""Samplers on measured losses: the step-law table, 17 cells of model size and tokens, learning rate x batch size each.

A suggestion is answered by the nearest run of the cell, in the logarithm of both; regret is the best loss so far less
the best of the cell. Medians over cells and seeds. Batch size changes no FLOPs, so nsga2 has one objective here, and
the middle, where coordinate_descent starts, is a guess that a person could have made.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness import Goal, publish

from crossover.platform.search.searchers import SAMPLERS, Settings, make_searcher
from crossover.search_spaces import Axis, Space

TABLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "scaling" / "steplaw_dense_lr_bs.csv"
RATE, BATCH = "optimizer.learning_rate", "schedule.batch_size"
COUNTS = (5, 10, 20, 40)
SLOW = ("gp",)  # 0.2 s a suggestion


@dataclass(frozen=True)
class Cell:
    """The runs of one model size and number of tokens: (learning rate, batch size) -> final loss."""

    name: str
    losses: Mapping[tuple[float, int], float]

    @property
    def best(self) -> float:
        """The smallest loss."""
        return min(self.losses.values())

    @cached_property
    def ranges(self) -> Space:
        """Both axes as ranges."""
        return Space(
            {path: Axis(log_uniform=(min(values), max(values)), role="nuisance") for path, values in self._values}
        )

    @cached_property
    def lists(self) -> Space:
        """Both axes as lists, for grid."""
        return Space({path: Axis(choice=tuple(values), role="nuisance") for path, values in self._values})

    @property
    def _values(self) -> list[tuple[str, list[float]]]:
        rates, batches = ({key[place] for key in self.losses} for place in (0, 1))
        return [(RATE, sorted(rates)), (BATCH, sorted(float(batch) for batch in batches))]

    def loss(self, settings: Settings) -> float:
        """That of the nearest run."""
        rate, batch = float(settings[RATE] or 0), float(settings[BATCH] or 0)
        nearest = min(self.losses, key=lambda key: math.log(key[0] / rate) ** 2 + math.log(key[1] / batch) ** 2)
        return self.losses[nearest]


@cache
def cells() -> tuple[Cell, ...]:
    """Every cell of the table."""
    losses: dict[str, dict[tuple[float, int], float]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            name = f"N={float(row['N']):.3g} D={float(row['D']):.3g}"
            losses.setdefault(name, {})[float(row["lr"]), int(row["bs"])] = float(row["smooth loss"])
    return tuple(Cell(name, found) for name, found in losses.items())


def regrets(sampler: str, cell: Cell, seed: int, num_trials: int) -> list[float]:
    """Regret after each suggestion; one that ends early keeps its last."""
    space = cell.lists if sampler == "grid" else cell.ranges
    stratum = space.strata()[0]
    searcher = make_searcher(
        sampler,
        lambda source, number: space.suggest(stratum, source, number),
        (seed, cell.name),
        num_trials,
        cost=lambda settings: 1.0,
    )
    best, found = math.inf, []
    for number in range(num_trials):
        settings = searcher.suggest(number)
        if settings is not None:
            searcher.observe(number, settings)
            value = cell.loss(settings)
            searcher.tell(number, value)
            best = min(best, value)
        found.append(best - cell.best)
    return found


def measure(sampler: str, num_seeds: int, chosen: Sequence[Cell]) -> dict[str, Any]:
    """Medians over cells and seeds, and the 90th percentile at the end, in nats per token."""
    deterministic = sampler == "coordinate_descent"
    runs = [
        regrets(sampler, cell, seed, max(COUNTS))
        for cell in chosen
        for seed in range(1 if deterministic else num_seeds)
    ]
    row: dict[str, Any] = {"sampler": sampler, "runs": len(runs)}
    for count in COUNTS:
        row[f"after {count}"] = statistics.median(run[count - 1] for run in runs)
    return {**row, f"p90 after {max(COUNTS)}": statistics.quantiles((run[-1] for run in runs), n=10)[-1]}


def main() -> None:
    """Compare every sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--slow-seeds", type=int, default=1, help=f"seeds of {', '.join(SLOW)}")
    parser.add_argument("--cells", type=int, default=len(cells()) if TABLE.exists() else 0)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    arguments = parser.parse_args()
    if not TABLE.exists():
        print(f"skipped: needs the step-law table at {TABLE}")
        return
    rows = [
        measure(name, arguments.slow_seeds if name in SLOW else arguments.seeds, cells()[: arguments.cells])
        for name in arguments.samplers
    ]
    by_name = {row["sampler"]: row for row in rows}
    goals = [
        Goal(
            f"{name}: regret after 20 over random's",
            by_name[name]["after 20"] / by_name["random"]["after 20"],
            at_most=1,
        )
        for name in ("tpe", "gp", "coordinate_descent")
        if name in by_name and "random" in by_name
    ]
    publish("samplers", rows, goals)


if __name__ == "__main__":
    main()
