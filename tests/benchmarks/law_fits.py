"""Time of scaling-law fits on one thread, against the plain recipe and the PyPI package `chinchilla`.

The plain recipe is that of the papers: L-BFGS-B with a numerical gradient at scipy's defaults from 4,500 starts
(Hoffmann's grid of 5 x 5 x 5 x 6 x 6 in ln A, ln B, ln E, alpha, beta), one after another. `--starts` runs fewer of
them, chosen at random, and the time is scaled; the table says how many were run. Objectives are compared too.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is loaded

import numpy as np
from harness import Goal, publish
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

sys.path.append(str(Path(__file__).resolve().parents[1] / "platform" / "analysis" / "scaling_laws"))

from law_tables import AR, made_table, public_table

from crossover.platform.analysis.scaling_laws import LossTable, read_losses
from crossover.platform.analysis.scaling_laws.bootstrap import bootstrap, cluster_weights
from crossover.platform.analysis.scaling_laws.fitting import SHARINGS
from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.objectives import OBJECTIVES
from crossover.platform.analysis.scaling_laws.solving import Solution, solve

Floats = NDArray[np.float64]
NUM_STARTS = 4_500
DELTA = 1e-3


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall seconds after one warm-up."""
    action()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def plain_objective(theta: Floats, table: LossTable) -> float:
    """The sum of Huber of ln loss, as one writes it down."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * np.log(table.params), b - beta * np.log(table.tokens), np.full(table.num_rows, e)])
    size = np.abs(logsumexp(terms, axis=0) - np.log(table.loss))
    return float(np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum())


def plain_recipe(table: LossTable, num_starts: int) -> tuple[float, float]:
    """Seconds of all 4,500 starts, and the lowest objective of those that were run."""
    grid = list(
        itertools.product(
            np.linspace(0, 25, 5),
            np.linspace(0, 25, 5),
            np.linspace(-1, 1, 5),
            np.linspace(0, 2, 6),
            np.linspace(0, 2, 6),
        )
    )
    assert len(grid) == NUM_STARTS
    order = np.random.default_rng(0).permutation(NUM_STARTS)[:num_starts]
    best, begin = np.inf, time.perf_counter()
    for place in order:
        found = minimize(plain_objective, np.array(grid[place]), args=(table,), method="L-BFGS-B")
        best = min(best, float(found.fun))
    return (time.perf_counter() - begin) * NUM_STARTS / num_starts, best


def package_at_its_defaults(table: LossTable) -> tuple[float, float] | None:
    """Seconds and objective of the package `chinchilla`; None where it is not installed."""
    try:
        from chinchilla import Chinchilla
    except ImportError:
        return None
    grid = {name: tuple(np.linspace(0, 25, 5)) for name in ("a", "b")}
    grid |= {"e": tuple(np.linspace(-1, 1, 5))}
    grid |= {name: tuple(np.linspace(0, 2, 6)) for name in ("alpha", "beta")}
    package = Chinchilla(tempfile.mkdtemp(), param_grid=grid, log_level=100)
    flops = 6 * table.params * table.tokens
    for c, n, d, loss in zip(flops, table.params, table.tokens, table.loss, strict=True):
        package.database.append(C=c, N=n, D=d, loss=loss)
    begin = time.perf_counter()
    package.fit(parallel=False)
    taken = time.perf_counter() - begin
    a, b, e = (float(np.log(getattr(package, name))) for name in ("A", "B", "E"))
    return taken, plain_objective(np.array([a, b, e, package.alpha, package.beta]), table)


def tables() -> tuple[LossTable, LossTable]:
    """The 240 public rows and the synthetic table, or made-up ones of about that size where these are absent."""
    try:
        return (
            read_losses(public_table("chinchilla_epoch.csv"), where={"excluded_by_epoch": "0"}),
            read_losses(public_table("synthetic_ar_dlm_dev.csv")),
        )
    except BaseException as skipped:  # pytest's skip
        print(f"made-up tables: {skipped}")
        return made_table("chinchilla", {"a": AR}, unique=(25e6, 100e6, 4e8)), made_table()


def boot(solution: Solution, table: LossTable, num_draws: int) -> Floats:
    """Bootstrap draws of a fit."""
    weights = cluster_weights(table.clusters, table.family, num_draws, np.random.default_rng(0))
    return bootstrap(solution.problem, solution.theta_P, weights, solution.free_P)


def main() -> None:
    """All of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--starts", type=int, default=NUM_STARTS, help="of the plain recipe's 4,500")
    options = parser.parse_args()
    small, joint = tables()
    huber, shared = OBJECTIVES["huber"], SHARINGS["E+exponents"]
    one = solve(LAWS["chinchilla"], small, huber)
    both = solve(LAWS["data-constrained"], joint, huber, shared=shared)
    fit_seconds = seconds(lambda: solve(LAWS["chinchilla"], small, huber), options.repeats)
    ours = {
        "5-parameter fit": (fit_seconds, one.value, 0.05),
        "its 1,000 bootstrap draws": (seconds(lambda: boot(one, small, 1000), options.repeats), None, 1.5),
        "joint data-constrained fit": (
            seconds(lambda: solve(LAWS["data-constrained"], joint, huber, shared=shared), options.repeats),
            both.value,
            0.5,
        ),
        "its 300 bootstrap draws": (seconds(lambda: boot(both, joint, 300), options.repeats), None, 3.0),
    }
    rows = [
        {"what": name, "rows": (small if "5" in name or "1,000" in name else joint).num_rows, "seconds": taken,
         "objective": "" if value is None else f"{value:.10f}"}
        for name, (taken, value, _) in ours.items()
    ]  # fmt: skip
    goals = [Goal(f"{name}: seconds", taken, at_most=most) for name, (taken, _, most) in ours.items()]
    plain, value = plain_recipe(small, options.starts)
    words = f"plain L-BFGS-B, {NUM_STARTS:,} starts ({options.starts:,} run)"
    rows.append({"what": words, "rows": small.num_rows, "seconds": plain, "objective": f"{value:.10f}"})
    goals.append(Goal("plain recipe / our fit", plain / fit_seconds, at_least=1000.0))
    goals.append(Goal("our objective / the plain one", one.value / value, at_most=1.0))
    package = package_at_its_defaults(small)
    if package is not None:
        taken, value = package
        rows.append(
            {"what": "package chinchilla", "rows": small.num_rows, "seconds": taken, "objective": f"{value:.10f}"}
        )
        goals.append(Goal("our objective / the package's", one.value / value, at_most=1.0))
    publish("law_fits", rows, goals)


if __name__ == "__main__":
    main()
