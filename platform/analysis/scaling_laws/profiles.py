"""Profile intervals: how far one parameter can go before the others, refitted, can no longer make up for it.

The threshold is that of the likelihood ratio, rescaled for an objective that is no likelihood: a rise of the sum by
`t^2/2 x mean(psi^2)/mean(psi') x n/(n - p) x K^2`, t Student's quantile with n - p degrees of freedom, times the
design effect of rows that belong to one run. `K = 1 + p/n (1 - m)/m`, m = mean(psi'), is Huber's correction (Robust
Statistics, 1981, section 7.6): p parameters pull about p residuals to zero, which makes the objective look sharper
than it is. On a ridge an interval has no end inside the bounds, and that is the answer: not identified.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from crossover.platform.analysis.scaling_laws.newton import minimise
from crossover.platform.analysis.scaling_laws.problem import Problem
from crossover.platform.analysis.scaling_laws.solving import Solution

__all__ = ["Profile", "profile", "rise_allowed"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_NUM_POINTS = 24
_SWEEPS = 2
_ROUNDS = 2  # of refinement at the ends, each by 5 points a bracket
_INSIDE = 5


@dataclass(frozen=True)
class Profile:
    """The objective along one parameter, all others refitted.

    Args:
        name: of the parameter.
        values_G: values that it was fixed at, reported units, increasing.
        objective_G: the smallest sum there.
        theta_GP: the other parameters there, internal.
        allowed: rise of the sum at the interval's ends.
        low: lower end; None: there is none above the search's bound.
        high: upper end; None likewise.
    """

    name: str
    values_G: Floats
    objective_G: Floats
    theta_GP: Floats
    allowed: float
    low: float | None
    high: float | None


def rise_allowed(solution: Solution, clusters_R: Places, level: float) -> float:
    """How much the sum may rise at the ends of an interval of one parameter."""
    problem, theta_BP = solution.problem, solution.theta_P[None]
    residual_R = problem.residuals(theta_BP)[0]
    pull = problem.objective.pull(residual_R, max(problem.objective.deltas[-1], 1e-4))
    num_rows, num_free = len(residual_R), int(solution.free_P.sum())
    degrees = max(num_rows - num_free, 1)
    steepness = float(max(pull.second.sum(), 1.0)) / num_rows
    curved = steepness / float(max(pull.second.max(), 1e-300))  # share of the rows where psi has a slope
    correction = 1 + num_free / num_rows * (1 - curved) / curved
    ratio = float((pull.first**2).mean()) / steepness * num_rows / degrees * correction**2
    return 0.5 * float(stdtrit(degrees, 0.5 + level / 2)) ** 2 * ratio * _design_effect(pull.first, clusters_R)


def _design_effect(pull_R: Floats, clusters_R: Places) -> float:
    """Variance of the sum of pulls by runs over that by rows; at least 1."""
    sums = np.bincount(clusters_R, weights=pull_R)
    return max(1.0, float((sums**2).sum() / max((pull_R**2).sum(), 1e-300)))


def profile(solution: Solution, place: int, allowed: float) -> Profile:
    """Profile one parameter over the whole of its bounds, finer and finer at the interval's ends."""
    problem = solution.problem
    lower, upper = (bound[place] for bound in problem.joint.bounds)
    free_P = solution.free_P.copy()
    free_P[place] = False
    grid = np.unique(np.append(np.linspace(lower, upper, _NUM_POINTS), solution.theta_P[place]))
    path = _Path.solved(problem, np.repeat(solution.theta_P[None], len(grid), axis=0), grid, place, free_P)
    for _ in range(_SWEEPS):
        if not path.improved_by_neighbours():
            break
    for _ in range(_ROUNDS):
        path = path.with_points(path.near_ends(min(solution.value, path.value_G.min()) + allowed))
    low, high = path.ends(min(solution.value, path.value_G.min()) + allowed)
    parameter, _ = problem.joint.columns[place]
    reported = np.exp if parameter.logarithmic else np.asarray
    return Profile(
        name=problem.joint.names[place],
        values_G=np.asarray(reported(path.grid_G)),
        objective_G=path.value_G,
        theta_GP=path.theta_GP,
        allowed=allowed,
        low=None if low is None else float(reported(low)),
        high=None if high is None else float(reported(high)),
    )


@dataclass
class _Path:
    """Solutions along a grid of one parameter."""

    problem: Problem
    place: int
    free_P: NDArray[np.bool_]
    grid_G: Floats
    theta_GP: Floats
    value_G: Floats

    @classmethod
    def solved(
        cls, problem: Problem, starts_GP: Floats, grid_G: Floats, place: int, free_P: NDArray[np.bool_]
    ) -> _Path:
        starts_GP = starts_GP.copy()
        starts_GP[:, place] = grid_G
        found = minimise(problem, starts_GP, free_P=free_P, max_steps=40)
        return cls(problem, place, free_P, grid_G, found.theta_BP, problem.value(found.theta_BP))

    def improved_by_neighbours(self) -> bool:
        """Start every point again where its neighbours ended; whether one of them got better by it."""
        better = False
        for shift in (1, -1):
            starts = np.roll(self.theta_GP, shift, axis=0)
            starts[:, self.place] = self.grid_G
            promising = np.flatnonzero(self.problem.value(starts) < 1.5 * self.value_G)
            again = _Path.solved(self.problem, starts[promising], self.grid_G[promising], self.place, self.free_P)
            won = again.value_G < self.value_G[promising] * (1 - 1e-6)
            self.theta_GP[promising[won]], self.value_G[promising[won]] = again.theta_GP[won], again.value_G[won]
            better |= bool(won.any())
        return better

    def with_points(self, grid_N: Floats) -> _Path:
        """With more points, each started at its nearest neighbour."""
        if not len(grid_N):
            return self
        nearest = np.abs(self.grid_G[None] - grid_N[:, None]).argmin(axis=1)
        more = _Path.solved(self.problem, self.theta_GP[nearest], grid_N, self.place, self.free_P)
        grid, first = np.unique(np.append(self.grid_G, grid_N), return_index=True)
        theta = np.vstack([self.theta_GP, more.theta_GP])[first]
        return _Path(self.problem, self.place, self.free_P, grid, theta, np.append(self.value_G, more.value_G)[first])

    def near_ends(self, highest: float) -> Floats:
        """New points inside the brackets of both ends."""
        shares = np.arange(1, _INSIDE + 1) / (_INSIDE + 1)
        brackets = [self.grid_G[[i, j]] for i, j in self._brackets(highest)]
        return np.concatenate([a + (b - a) * shares for a, b in brackets]) if brackets else np.empty(0)

    def ends(self, highest: float) -> tuple[float | None, float | None]:
        """Where the objective crosses a height, the outermost on either side; None where it does not."""
        low: float | None = None
        high: float | None = None
        for i, j in self._brackets(highest):
            share = (highest - self.value_G[i]) / (self.value_G[j] - self.value_G[i])
            place = float(self.grid_G[i] + share * (self.grid_G[j] - self.grid_G[i]))
            if self.value_G[i] > highest:
                low = place
            else:
                high = place
        return low, high

    def _brackets(self, highest: float) -> list[tuple[int, int]]:
        inside = np.flatnonzero(self.value_G <= highest)
        first, last = int(inside[0]), int(inside[-1])
        found = [(first - 1, first)] if first > 0 else []
        return [*found, (last, last + 1)] if last < len(self.grid_G) - 1 else found
