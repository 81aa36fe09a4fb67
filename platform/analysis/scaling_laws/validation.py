"""Cross-validation of laws and of what families share: folds of whole runs, all fitted as one batch.

The score is the objective itself on the rows left out. Among candidates the simplest wins that is within one standard
error of the best one, the error that of their paired difference over runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.bootstrap import bootstrap
from crossover.platform.analysis.scaling_laws.solving import Solution

__all__ = ["Candidate", "choose", "cross_validated"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_NUM_FOLDS = 10


@dataclass(frozen=True)
class Candidate:
    """One law, and what its families share.

    Args:
        law: its name.
        shared: parameters in common.
        num_parameters: those fitted.
        objective: the minimised sum over all rows.
        score: the sum over rows that the fit did not see.
        score_se: standard error of the score's difference from the best one's; 0 for the best.
    """

    law: str
    shared: tuple[str, ...]
    num_parameters: int
    objective: float
    score: float
    score_se: float


def cross_validated(solution: Solution, clusters_R: Places, family_R: NDArray[np.str_], seed: int) -> Floats:
    """The objective of each row, fitted without its fold."""
    fold_R = _folds(clusters_R, family_R, np.random.default_rng(seed))
    num_folds = int(fold_R.max()) + 1
    weight_FR = (fold_R[None] != np.arange(num_folds)[:, None]).astype(np.float64)
    theta_FP = bootstrap(solution.problem, solution.theta_P, weight_FR, solution.free_P)
    loss_FR = solution.problem.objective.loss(solution.problem.residuals(theta_FP))
    held_out: Floats = loss_FR[fold_R, np.arange(len(fold_R))]
    return held_out


def _folds(clusters_R: Places, family_R: NDArray[np.str_], generator: np.random.Generator) -> Places:
    """A fold for each row: whole runs, each family spread over all folds."""
    fold_R = np.zeros(len(clusters_R), np.intp)
    for family in np.unique(family_R):
        rows = np.flatnonzero(family_R == family)
        _, member = np.unique(clusters_R[rows], return_inverse=True)
        num = int(member.max()) + 1
        fold_R[rows] = (generator.permutation(num) % min(_NUM_FOLDS, num))[member]
    return fold_R


def choose(
    solutions: Sequence[Solution], scores_R: Sequence[Floats], clusters_R: Places
) -> tuple[int, tuple[Candidate, ...]]:
    """The place of the chosen one, and all candidates with their scores."""
    totals = [float(score.sum()) for score in scores_R]
    best = int(np.argmin(totals))
    errors = [_difference_error(score - scores_R[best], clusters_R) for score in scores_R]
    candidates = tuple(
        Candidate(
            law=s.problem.joint.law.name,
            shared=tuple(p.name for p in s.problem.joint.law.parameters if p.name in s.problem.joint.shared),
            num_parameters=int(s.free_P.sum()),
            objective=s.value,
            score=total,
            score_se=error,
        )
        for s, total, error in zip(solutions, totals, errors, strict=True)
    )
    near = [i for i, error in enumerate(errors) if totals[i] - totals[best] <= error]
    return min(near, key=lambda i: (candidates[i].num_parameters, totals[i])), candidates


def _difference_error(difference_R: Floats, clusters_R: Places) -> float:
    sums = np.bincount(clusters_R, weights=difference_R)
    return float(np.sqrt(len(sums)) * sums.std())
