"""Bootstrap by weights: every draw is the same problem with other weights of the rows, solved in batches.

Rows of one run are drawn together, families apart. A draw starts at the fit to all rows; then every draw is priced at
the solutions of all others (one matrix product), and starts again where another's is better, so that a ridge with
several minima does not keep it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.newton import minimise
from crossover.platform.analysis.scaling_laws.problem import Problem

__all__ = ["bootstrap", "cluster_weights", "solve_from_each_other"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Places = NDArray[np.intp]

_ROUNDS = 2
_BETTER = 1e-7  # of the value


def cluster_weights(
    clusters_R: Places, family_R: NDArray[np.str_], num_draws: int, generator: np.random.Generator
) -> Floats:
    """How often each row is drawn, [B, R]: clusters with replacement, as many in each family as there are."""
    weight_BR = np.zeros((num_draws, len(clusters_R)))
    for family in np.unique(family_R):
        rows = np.flatnonzero(family_R == family)
        _, member = np.unique(clusters_R[rows], return_inverse=True)
        num = int(member.max()) + 1
        counts = generator.multinomial(num, np.full(num, 1 / num), num_draws)
        weight_BR[:, rows] = counts[:, member]
    return weight_BR


def bootstrap(problem: Problem, best_P: Floats, weight_BR: Floats, free_P: Bools | None = None) -> Floats:
    """Parameters [B, P] of each draw."""
    return solve_from_each_other(problem, np.repeat(best_P[None], len(weight_BR), axis=0), weight_BR, free_P)


def solve_from_each_other(problem: Problem, theta_BP: Floats, weight_BR: Floats, free_P: Bools | None = None) -> Floats:
    """Solve B problems that differ in their weights; each may take over the place of another's solution."""
    narrow = problem.objective.deltas[-1:] if len(problem.objective.deltas) < 5 else problem.objective.deltas[2:]
    found = minimise(problem, theta_BP, weight_BR, free_P=free_P, deltas=narrow)
    theta_BP, value_B = found.theta_BP, problem.value(found.theta_BP, weight_BR)
    for _ in range(_ROUNDS):
        price_BB = weight_BR @ problem.objective.loss(problem.residuals(theta_BP)).T
        cheapest = price_BB.argmin(axis=1)
        poor = np.flatnonzero(price_BB.min(axis=1) < value_B * (1 - _BETTER))
        if not len(poor):
            break
        again = minimise(problem, theta_BP[cheapest[poor]], weight_BR[poor], free_P=free_P, deltas=narrow)
        theta_BP[poor] = again.theta_BP
        value_B[poor] = problem.value(again.theta_BP, weight_BR[poor])
    return theta_BP
