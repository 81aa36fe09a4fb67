"""Tables for tests of laws: made up from a law, and the public ones where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws import LossTable
from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.sizes import Points

AR = {"E": 1.87, "A": 520.8, "B": 1490.0, "alpha": 0.3527, "beta": 0.3527, "R_D*": 15.4, "R_N*": 5.3}
MDM = {**AR, "A": 690.0, "B": 2980.0, "R_D*": 500.0, "R_N*": 25.0}
RISING = {
    "E": 1.5,
    "A": 600.0,
    "B": 900.0,
    "alpha": 0.35,
    "beta": 0.33,
    "p": 0.9,
    "c": 60.0,
    "m": 0.4,
    "k": 0.5,
    "gamma": 0.8,
}


def public_table(name: str) -> Path:
    """A public table, or the test is skipped."""
    root = Path(__file__).resolve().parents[4]
    places = [root.parent / "shared", Path(os.environ.get("CROSSOVER_SHARED", root.parent / "shared"))]
    found = [place / "data" / "scaling" / name for place in places]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        pytest.skip(
            f"needs the public table {name} in ../shared/data/scaling beside the checkout, or $CROSSOVER_SHARED"
        )
    return path


def made_losses(
    law: str,
    values: dict[str, float],
    params: NDArray[np.float64],
    tokens: NDArray[np.float64],
    unique: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Losses of a law without noise."""
    found: NDArray[np.float64] = np.exp(
        LAWS[law].log_loss(LAWS[law].internal(values)[None], Points.of(params, tokens, unique))[0]
    )
    return found


def true_crossing(first: dict[str, float], second: dict[str, float], unique: float) -> float:
    """The smallest C at which the best of the second law over N lies below the first's, on dense grids."""
    for flops in np.geomspace(6e9 * unique, 1e22, 3000):
        params = np.geomspace(1e6, flops / (6 * unique), 1000)
        best = [
            made_losses("data-constrained", law, params, flops / (6 * params), np.full(1000, unique)).min()
            for law in (second, first)
        ]
        if best[0] < best[1]:
            return float(flops)
    raise AssertionError("no crossing below 1e22 FLOPs")


def made_table(
    law: str = "data-constrained",
    families: dict[str, dict[str, float]] | None = None,
    *,
    noise: float = 0.003,
    seed: int = 0,
    unique: tuple[float, ...] = (25e6, 100e6),
    **columns: Any,
) -> LossTable:
    """Losses of 7 sizes and 10 counts of epochs at each U, with noise; every row a run."""
    families = families or {"ar": AR, "mdm": MDM}
    generator = np.random.default_rng(seed)
    sizes = np.array([7e6, 14e6, 28e6, 56e6, 110e6, 220e6, 440e6])
    grid = np.array([(n, e, u) for u in unique for n in sizes for e in 2.0 ** np.arange(10)]).T
    rows: dict[str, list[Any]] = {name: [] for name in ("N", "D", "U", "loss", "family")}
    for family, values in families.items():
        n, e, u = grid
        log = LAWS[law].log_loss(LAWS[law].internal(values)[None], Points.of(n, e * u, u))[0]
        rows["N"].append(n)
        rows["D"].append(e * u)
        rows["U"].append(u)
        rows["loss"].append(np.exp(log + generator.normal(0, noise, len(log))))
        rows["family"].append(np.full(len(n), family))
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    return LossTable.of({**joined, **columns}, "made")
