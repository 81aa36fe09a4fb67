"""Losses of runs that were not measured, with intervals that hold the law's error and one run's noise.

An interval is that of sums: the law of a bootstrap draw at the point, plus a residual of the family's rows nearest to
it in N, D and U (noise is larger away from the best N for a budget). Every law is wrong a little, and more so beyond
its data: the fifth of the runs with the most FLOPs, predicted from the rest, say by how much, and intervals are widened
(or narrowed) by that factor. Without it, 80 % intervals held 9 to 100 % of the largest runs of nine public tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.bootstrap import bootstrap, cluster_weights
from crossover.platform.analysis.scaling_laws.problem import Problem
from crossover.platform.analysis.scaling_laws.results import HeldOut, Prediction
from crossover.platform.analysis.scaling_laws.sizes import Points
from crossover.platform.analysis.scaling_laws.solving import Solution, solve
from crossover.platform.analysis.scaling_laws.table import LossTable

__all__ = ["Noise", "Point", "held_out_largest", "predict"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVEL = 0.8
_SCALES = (0.5, 10.0)
_MIN_NEAR = 15
_HELD_OUT_SHARE = 0.2
_SPARE = 3  # rows a family must have left, beyond its parameters, for the largest to be held out


@dataclass(frozen=True)
class Point:
    """A run to be predicted, and its loss where it is known."""

    family: str
    N: float
    D: float
    U: float
    measured: float | None = None


@dataclass(frozen=True)
class Noise:
    """What single runs differ from the law by.

    Args:
        table: the fitted rows.
        residual_R: ln measured - ln predicted, widened for the parameters that were fitted.
        scale: what intervals are multiplied by.
    """

    table: LossTable
    residual_R: Floats
    scale: float = 1.0

    @classmethod
    def of(cls, solution: Solution, table: LossTable, scale: float = 1.0) -> Noise:
        """Residuals of the fitted rows."""
        residual_R = -solution.problem.residuals(solution.theta_P[None])[0]
        slack = np.sqrt(table.num_rows / max(table.num_rows - int(solution.free_P.sum()), 1))
        return cls(table, residual_R * slack, scale)

    def near(self, point: Point) -> Floats:
        """Residuals of the quarter of the family's rows that is nearest to a point, in standardised ln N, D, U."""
        rows = np.flatnonzero(self.table.family == point.family)
        places = np.log(np.stack([self.table.params[rows], self.table.tokens[rows], self.table.unique[rows]], axis=1))
        spread = places.std(axis=0) + 1e-9
        distance = (((places - np.log([point.N, point.D, point.U])) / spread) ** 2).sum(axis=1)
        num = min(len(rows), max(_MIN_NEAR, len(rows) // 4))
        return self.residual_R[rows[np.argsort(distance, kind="stable")[:num]]]

    def largest_flops(self, family: str) -> float:
        """The most FLOPs that a family was measured at."""
        return float(self.table.flops[self.table.family == family].max())


def predict(
    problem: Problem, theta_P: Floats, draws_BP: Floats, noise: Noise, points: Sequence[Point], level: float = LEVEL
) -> tuple[Prediction, ...]:
    """Predict runs.

    Args:
        problem: whose parameters are meant.
        theta_P: the optimum.
        draws_BP: bootstrap draws.
        noise: of single runs.
        points: to be predicted.
        level: of the intervals.
    """
    found = []
    for point in points:
        places = problem.joint.places(point.family)
        at = Points.of(*(np.array([value]) for value in (point.N, point.D, point.U)))
        best = float(problem.joint.law.log_loss(theta_P[None, places], at)[0, 0])
        log_B = problem.joint.law.log_loss(draws_BP[:, places], at)[:, 0]
        sums = (log_B[:, None] + noise.near(point)).ravel()
        low, high = np.quantile(sums, [(1 - level) / 2, (1 + level) / 2])
        found.append(
            Prediction(
                family=point.family,
                N=point.N,
                D=point.D,
                U=point.U,
                loss=math.exp(best),
                low=math.exp(best - noise.scale * max(best - low, 0.0)),
                high=math.exp(best + noise.scale * max(high - best, 0.0)),
                level=level,
                measured=point.measured,
                extrapolation=6 * point.N * point.D / noise.largest_flops(point.family),
            )
        )
    return tuple(found)


def held_out_largest(solution: Solution, table: LossTable, *, num_draws: int, seed: int) -> HeldOut | None:
    """Predict the fifth of the runs with the most FLOPs from a fit to the others; None where too few would be left."""
    kept_R = ~_largest(table)
    found = _predicted_rest(solution, table, kept_R, num_draws, seed)
    if not found:
        return None
    kept = table.take(kept_R)
    inner = _predicted_rest(solution, kept, ~_largest(kept), num_draws, seed)
    found = [_rescaled(prediction, _scale(inner)) for prediction in found] if inner else found
    measured = np.array([p.measured for p in found], np.float64)
    inside = np.array([p.low <= m <= p.high for p, m in zip(found, measured, strict=True)])
    errors = np.abs(np.log(np.array([p.loss for p in found]) / measured))
    scale = _scale([_rescaled(prediction, 1 / _scale(inner)) for prediction in found] if inner else found)
    return HeldOut(tuple(found), int(kept_R.sum()), float(inside.mean()), float(np.median(errors)), scale)


def _predicted_rest(solution: Solution, table: LossTable, kept_R: Bools, num_draws: int, seed: int) -> list[Prediction]:
    """The rows left out, predicted from a fit of the same law to those kept; empty where these are too few."""
    joint = solution.problem.joint
    least = len(joint.law.parameters) + _SPARE
    if kept_R.all() or min((table.family[kept_R] == family).sum() for family in table.families) < least:
        return []
    kept = table.take(kept_R)
    given = zip(joint.columns, joint.natural(solution.theta_P[None])[0], solution.free_P, strict=True)
    fixed = {parameter.name: float(value) for (parameter, _), value, free in given if not free}
    part = solve(joint.law, kept, solution.problem.objective, shared=joint.shared, fixed=fixed)
    weights = cluster_weights(kept.clusters, kept.family, num_draws, np.random.default_rng([seed, 2]))
    draws = bootstrap(part.problem, part.theta_P, weights, part.free_P)
    points = [
        Point(
            str(table.family[i]),
            float(table.params[i]),
            float(table.tokens[i]),
            float(table.unique[i]),
            float(table.loss[i]),
        )
        for i in np.flatnonzero(~kept_R)
    ]
    return list(predict(part.problem, part.theta_P, draws, Noise.of(part, kept), points))


def _scale(predictions: Sequence[Prediction]) -> float:
    """What intervals must be multiplied by to hold their share of measured losses."""
    far = []
    for p in predictions:
        assert p.measured is not None  # held-out rows are measured
        miss = math.log(p.measured / p.loss)
        half = math.log(p.high / p.loss) if miss > 0 else math.log(p.loss / p.low)
        far.append(abs(miss) / max(half, 1e-6))
    return float(np.clip(np.quantile(far, predictions[0].level), *_SCALES))


def _rescaled(found: Prediction, scale: float) -> Prediction:
    return replace(
        found,
        low=found.loss * (found.low / found.loss) ** scale,
        high=found.loss * (found.high / found.loss) ** scale,
    )


def _largest(table: LossTable) -> Bools:
    """Rows of the runs with the most FLOPs, a fifth of the runs of each family."""
    held_R = np.zeros(table.num_rows, bool)
    clusters = table.clusters
    for family in table.families:
        rows = np.flatnonzero(table.family == family)
        runs = np.unique(clusters[rows])
        most = np.array([table.flops[clusters == run].max() for run in runs])
        num = round(_HELD_OUT_SHARE * len(runs))
        chosen = runs[np.argsort(-most, kind="stable")[:num]]
        held_R |= np.isin(clusters, chosen)
    return held_R
