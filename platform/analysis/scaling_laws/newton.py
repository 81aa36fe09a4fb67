"""Newton's method for many small problems at once, in a box, with exact second derivatives.

Each step uses the Hessian's eigenvectors in units of how much each parameter matters, with the absolute values of its
eigenvalues (arXiv 1406.2572) and a damping of its own for every problem. Quasi-Newton code at its default tolerances
stops early on these objectives; here a problem has converged when a further Newton step promises less than 1e-11 of the
value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.problem import Local, Problem

__all__ = ["Minimum", "minimise"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PROMISE = 1e-11  # of the value: when a full Newton step promises less, it has converged
_MAX_DAMPING = 1e8
_BATCH_NUMBERS = 200_000  # of one array of rows by problems: what is worked on at once stays in the cache


@dataclass(frozen=True)
class Minimum:
    """Where B problems ended.

    Args:
        theta_BP: parameters, internal.
        value_B: the weighted sum, as minimised at the last width.
        gradient_norm_B: norm of the gradient by scaled parameters, those at a bound left out, over the value.
        converged_B: a further step promises nothing.
        steps: Newton steps of the slowest one.
    """

    theta_BP: Floats
    value_B: Floats
    gradient_norm_B: Floats
    converged_B: Bools
    steps: int


def minimise(
    problem: Problem,
    theta_BP: Floats,
    weight_BR: Floats | None = None,
    *,
    free_P: Bools | None = None,
    deltas: tuple[float, ...] | None = None,
    max_steps: int = 200,
) -> Minimum:
    """Minimise from each of B starts.

    Args:
        problem: what is minimised.
        theta_BP: starts, internal.
        weight_BR: weight of each row in each problem; None: 1.
        free_P: False where a parameter keeps its value; None: all are free.
        deltas: widths of the smooth stand-ins, one after another; by default the objective's.
        max_steps: steps at each width.
    """
    size = max(1, _BATCH_NUMBERS // (problem.num_rows * theta_BP.shape[1]))
    parts = [
        _minimise_batch(
            problem,
            theta_BP[begin : begin + size],
            None if weight_BR is None else weight_BR[begin : begin + size],
            np.ones(theta_BP.shape[1], bool) if free_P is None else free_P,
            deltas or problem.objective.deltas,
            max_steps,
        )
        for begin in range(0, len(theta_BP), size)
    ]
    return Minimum(
        np.concatenate([part.theta_BP for part in parts]),
        np.concatenate([part.value_B for part in parts]),
        np.concatenate([part.gradient_norm_B for part in parts]),
        np.concatenate([part.converged_B for part in parts]),
        max(part.steps for part in parts),
    )


def _minimise_batch(
    problem: Problem,
    theta_BP: Floats,
    weight_BR: Floats | None,
    free_P: Bools,
    deltas: tuple[float, ...],
    max_steps: int,
) -> Minimum:
    for number, delta in enumerate(deltas):
        last = number == len(deltas) - 1
        search = _Search(problem, theta_BP, weight_BR, free_P, delta)
        search.run(max_steps if last else min(max_steps, 15), _PROMISE if last else 1e-3)
        theta_BP = search.theta
    return search.minimum()


class _Search:
    """The state of one batch at one width."""

    def __init__(
        self, problem: Problem, theta_BP: Floats, weight_BR: Floats | None, free_P: Bools, delta: float
    ) -> None:
        self._problem, self._weight, self._free, self._delta = problem, weight_BR, free_P, delta
        self._lower, self._upper = problem.joint.bounds
        self.theta = np.where(free_P, np.clip(theta_BP, self._lower, self._upper), theta_BP)
        num_sets, num_params = theta_BP.shape
        self._local = Local(
            np.zeros(num_sets),
            np.zeros(theta_BP.shape),
            np.zeros((num_sets, num_params, num_params)),
            np.ones(theta_BP.shape),
        )
        self._damping = np.full(num_sets, 1e-3)
        self._promise = np.full(num_sets, np.inf)
        self._renew(np.arange(num_sets))
        self._steps = 0

    def run(self, max_steps: int, promise: float) -> None:
        """Step until every problem has converged, is stuck, or has had its steps."""
        active = np.arange(len(self.theta))
        while len(active) and self._steps < max_steps:
            step, promised = self._newton_step(active)
            self._promise[active] = promised
            going = (promised > promise * np.abs(self._local.value_B[active]) + 1e-300) & (
                self._damping[active] < _MAX_DAMPING
            )
            active, step = active[going], step[going]
            if len(active):
                self._try(active, step)
            self._steps += 1

    def minimum(self) -> Minimum:
        """Where it ended."""
        gradient = np.where(self._held(slice(None)), 0.0, self._local.gradient_BP)
        scaled = gradient / np.sqrt(self._local.scale_BP + 1e-300)
        value = np.abs(self._local.value_B)
        norm_B = np.linalg.norm(scaled, axis=1) / np.sqrt(value + 1e-300)
        converged = self._promise <= 1e3 * _PROMISE * value + 1e-300
        return Minimum(self.theta, self._local.value_B, norm_B, converged, self._steps)

    def _renew(self, which: NDArray[np.intp]) -> None:
        weight = None if self._weight is None else self._weight[which]
        local = self._problem.local(self.theta[which], weight, self._delta)
        self._local.value_B[which] = local.value_B
        self._local.gradient_BP[which] = local.gradient_BP
        self._local.hessian_BPP[which] = local.hessian_BPP
        self._local.scale_BP[which] = local.scale_BP

    def _held(self, which: NDArray[np.intp] | slice) -> Bools:
        """Parameters that do not move: fixed, or at a bound with the gradient pointing outside."""
        theta, gradient = self.theta[which], self._local.gradient_BP[which]
        at_lower = (theta <= self._lower) & (gradient > 0)
        at_upper = (theta >= self._upper) & (gradient < 0)
        held: Bools = ~self._free | at_lower | at_upper
        return held

    def _newton_step(self, active: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Damped steps [A, P], and what an undamped one promises [A]."""
        held = self._held(active)
        unit = np.where(held, 0.0, 1 / np.sqrt(self._local.scale_BP[active] + 1e-300))
        gradient = self._local.gradient_BP[active] * unit
        hessian = self._local.hessian_BPP[active] * unit[:, :, None] * unit[:, None, :]
        hessian[:, np.arange(held.shape[1]), np.arange(held.shape[1])] += held
        curvature, vectors = np.linalg.eigh(hessian)
        along = (vectors.transpose(0, 2, 1) @ gradient[:, :, None])[:, :, 0]
        stiff = np.maximum(np.abs(curvature), 1e-12)
        promised = 0.5 * (along**2 / stiff).sum(axis=1)
        damped = along / (stiff + self._damping[active][:, None])
        step = -(vectors @ damped[:, :, None])[:, :, 0] * unit
        return step, promised

    def _try(self, active: NDArray[np.intp], step: Floats) -> None:
        """Take the steps that lower the value, and damp the others more."""
        trial = np.where(self._free, np.clip(self.theta[active] + step, self._lower, self._upper), self.theta[active])
        moved = trial - self.theta[active]
        weight = None if self._weight is None else self._weight[active]
        value = self._problem.value(trial, weight, self._delta)
        gain = self._local.value_B[active] - value
        hessian = self._local.hessian_BPP[active]
        expected = -(self._local.gradient_BP[active] * moved).sum(axis=1)
        expected -= 0.5 * np.einsum("ap,apq,aq->a", moved, hessian, moved)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gain / expected
        taken = gain > 0
        damping = self._damping[active]
        damping = np.where(taken, np.where(ratio > 0.5, damping * 0.1, damping), np.maximum(damping * 8, 1e-6))
        self._damping[active] = damping
        if taken.any():
            which = active[taken]
            self.theta[which] = trial[taken]
            self._renew(which)
