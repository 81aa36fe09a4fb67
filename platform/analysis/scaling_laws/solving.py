"""The optimum of one law on one table: each family by itself from many starts, then together from the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Law
from crossover.platform.analysis.scaling_laws.newton import Minimum, minimise
from crossover.platform.analysis.scaling_laws.objectives import Objective
from crossover.platform.analysis.scaling_laws.problem import FamilyRows, JointLaw, Problem
from crossover.platform.analysis.scaling_laws.starts import grid_of_starts
from crossover.platform.analysis.scaling_laws.table import LossTable

__all__ = ["Solution", "problem_of", "solve"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_NUM_STARTS = 12
_NUM_JOINT_STARTS = 6
_MAX_STEPS = 40  # of a start; the best one goes on
_AGREES = 1e-6  # of the value


@dataclass(frozen=True)
class Solution:
    """Where the best of the starts ended.

    Args:
        theta_P: parameters, internal.
        free_P: False where a parameter was given.
        value: the minimised sum.
        gradient_norm: of the scaled gradient, relative; what is left of it at the optimum.
        num_starts: starts that were followed.
        num_agree: how many of them ended at this value.
        converged: a further Newton step promises nothing.
    """

    problem: Problem
    theta_P: Floats
    free_P: Bools
    value: float
    gradient_norm: float
    num_starts: int
    num_agree: int
    converged: bool


def problem_of(law: Law, table: LossTable, objective: Objective, shared: frozenset[str] = frozenset()) -> Problem:
    """A law for each family of a table."""
    rows = []
    for family in table.families:
        places = np.flatnonzero(table.family == family)
        rows.append(FamilyRows(family, table.points.take(places), np.log(table.loss[places]), places))
    return Problem(JointLaw(law, table.families, shared), objective, tuple(rows))


def solve(
    law: Law,
    table: LossTable,
    objective: Objective,
    *,
    shared: frozenset[str] = frozenset(),
    fixed: Mapping[str, float] | None = None,
) -> Solution:
    """Minimise the objective over the table.

    Args:
        shared: parameters that all families have in common.
        fixed: reported values of parameters that are given and not searched.
    """
    fixed = fixed or {}
    problem = problem_of(law, table, objective, shared)
    ends = [_family_minima(law, rows, objective, fixed) for rows in problem.rows]
    free_P = np.array([parameter.name not in fixed for parameter, _ in problem.joint.columns])
    if len(ends) == 1:
        return _solution(problem, _polished(problem, ends[0], free_P), free_P)
    found = minimise(problem, _joined(problem.joint, ends), free_P=free_P)
    return _solution(problem, found, free_P)


def _polished(problem: Problem, found: Minimum, free_P: Bools) -> Minimum:
    """The best of them, followed to its end."""
    best = int(np.argmin(found.value_B))
    if not found.converged_B[best]:
        again = minimise(problem, found.theta_BP[[best]], free_P=free_P, deltas=problem.objective.deltas[-1:])
        found.theta_BP[best], found.value_B[best] = again.theta_BP[0], again.value_B[0]
        found.gradient_norm_B[best], found.converged_B[best] = again.gradient_norm_B[0], again.converged_B[0]
    return found


def _family_minima(law: Law, rows: FamilyRows, objective: Objective, fixed: Mapping[str, float]) -> Minimum:
    """Minima of one family's law, from the most promising starts; shapes that differ each send their best."""
    own = FamilyRows(rows.family, rows.points, rows.log_loss_R, np.arange(len(rows.rows_R)))
    problem = Problem(JointLaw(law, (rows.family,)), objective, (own,))
    grid_SP = grid_of_starts(law, rows.points, rows.log_loss_R, fixed)
    exponents = {law.index[term.exponent] for term in law.terms}
    shape = [i for i, p in enumerate(law.parameters) if p.starts and i not in exponents]
    value_S = problem.value(grid_SP)
    order = np.argsort(value_S, kind="stable")
    _, group_S = np.unique(grid_SP[:, shape], axis=0, return_inverse=True)
    rank_S = np.empty(len(order), int)
    seen: dict[int, int] = {}
    for start in order:
        group = int(group_S.reshape(-1)[start])
        rank_S[start] = seen.get(group, 0)
        seen[group] = rank_S[start] + 1
    chosen = np.lexsort((value_S, rank_S))[:_NUM_STARTS]
    free_P = np.array([p.name not in fixed for p in law.parameters])
    return minimise(problem, grid_SP[chosen], free_P=free_P, max_steps=_MAX_STEPS)


def _joined(joint: JointLaw, ends: list[Minimum]) -> Floats:
    """Starts of the joint problem: the families' minima rank by rank, the mean of what they share."""
    ordered = [end.theta_BP[np.argsort(end.value_B)] for end in ends]
    num = min(_NUM_JOINT_STARTS, *(len(theta) for theta in ordered))
    starts_SP = np.zeros((num, len(joint.columns)))
    owners_P = np.zeros(len(joint.columns))
    for family, theta in zip(joint.families, ordered, strict=True):
        starts_SP[:, joint.places(family)] += theta[:num]
        owners_P[joint.places(family)] += 1
    return starts_SP / owners_P


def _solution(problem: Problem, found: Minimum, free_P: Bools) -> Solution:
    value_B = problem.value(found.theta_BP)
    best = int(np.argmin(value_B))
    agree = value_B <= value_B[best] * (1 + _AGREES) + 1e-300
    return Solution(
        problem=problem,
        theta_P=found.theta_BP[best],
        free_P=free_P,
        value=float(value_B[best]),
        gradient_norm=float(found.gradient_norm_B[best]),
        num_starts=len(value_B),
        num_agree=int(agree.sum()),
        converged=bool(found.converged_B[best]),
    )
