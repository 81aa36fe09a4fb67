"""One fit as arrays: a law for each family, parameters that families share, and a weighted sum over all rows.

Everything is batched over B parameter sets, each with its own weights of rows: starts, bootstrap draws, folds of a
cross-validation and points of a profile are all the same computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Law, Parameter
from crossover.platform.analysis.scaling_laws.objectives import Objective
from crossover.platform.analysis.scaling_laws.sizes import Points

__all__ = ["FamilyRows", "JointLaw", "Local", "Problem"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class JointLaw:
    """One law for each of several families, some of its parameters in common.

    Args:
        law: of each family.
        families: their names, in order.
        shared: names of the parameters that all families have in common.
    """

    law: Law
    families: tuple[str, ...]
    shared: frozenset[str] = frozenset()

    @cached_property
    def columns(self) -> tuple[tuple[Parameter, str | None], ...]:
        """What each place of a joint parameter array is: a parameter, and its family or None for all of them."""
        found: list[tuple[Parameter, str | None]] = []
        for parameter in self.law.parameters:
            if parameter.name in self.shared or len(self.families) == 1:
                found.append((parameter, None))
            else:
                found += [(parameter, family) for family in self.families]
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Reported names: `alpha` where it is common to all, else `alpha[ar]`."""
        return tuple(p.name if family is None else f"{p.name}[{family}]" for p, family in self.columns)

    @cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds [P], internal."""
        pairs = np.array([parameter.bounds for parameter, _ in self.columns])
        return pairs[:, 0], pairs[:, 1]

    def places(self, family: str) -> Places:
        """Where the parameters of one family's law lie in a joint array."""
        return np.array(
            [
                next(i for i, (p, owner) in enumerate(self.columns) if p is parameter and owner in (None, family))
                for parameter in self.law.parameters
            ]
        )

    def natural(self, theta_BP: Floats) -> Floats:
        """Reported values from internal ones."""
        logarithmic = np.array([parameter.logarithmic for parameter, _ in self.columns])
        return np.where(logarithmic, np.exp(np.where(logarithmic, theta_BP, 0.0)), theta_BP)


@dataclass(frozen=True)
class FamilyRows:
    """The rows of one family.

    Args:
        rows_R: their places in the whole table.
        log_loss_R: ln of the measured loss.
    """

    family: str
    points: Points
    log_loss_R: Floats
    rows_R: Places


@dataclass(frozen=True)
class Local:
    """The objective near B parameter sets.

    Args:
        value_B: the sum.
        gradient_BP: its exact gradient.
        hessian_BPP: its exact second derivatives.
        scale_BP: diagonal of the weighted Gauss-Newton matrix: how much a parameter matters, always above 0.
    """

    value_B: Floats
    gradient_BP: Floats
    hessian_BPP: Floats
    scale_BP: Floats


@dataclass(frozen=True)
class Problem:
    """What is minimised."""

    joint: JointLaw
    objective: Objective
    rows: tuple[FamilyRows, ...]

    @cached_property
    def num_rows(self) -> int:
        """Rows of all families."""
        return sum(len(rows.rows_R) for rows in self.rows)

    def residuals(self, theta_BP: Floats) -> Floats:
        """ln predicted - ln measured of every row, [B, all rows], in the order of the table."""
        residual = np.empty((len(theta_BP), self.num_rows))
        for rows in self.rows:
            log_BR = self.joint.law.log_loss(theta_BP[:, self.joint.places(rows.family)], rows.points)
            residual[:, rows.rows_R] = log_BR - rows.log_loss_R
        return residual

    def value(self, theta_BP: Floats, weight_BR: Floats | None = None, delta: float | None = None) -> Floats:
        """The weighted sum [B]; without `delta` the objective itself and not its smooth stand-in."""
        loss_BR = self.objective.loss(self.residuals(theta_BP), delta)
        return _weighted_sum(loss_BR, weight_BR)

    def local(self, theta_BP: Floats, weight_BR: Floats | None, delta: float) -> Local:
        """Value, gradient and Hessian."""
        num_sets, num_params = theta_BP.shape
        value_B = np.zeros(num_sets)
        gradient_BP, scale_BP = np.zeros((num_sets, num_params)), np.zeros((num_sets, num_params))
        hessian_BPP = np.zeros((num_sets, num_params, num_params))
        law = self.joint.law
        for rows in self.rows:
            places = self.joint.places(rows.family)
            own_BP = theta_BP[:, places]
            expansion = law.expand(own_BP, rows.points)
            residual_BR = expansion.log_loss_BR - rows.log_loss_R
            weight = 1.0 if weight_BR is None else weight_BR[:, rows.rows_R]
            pull = self.objective.pull(residual_BR, delta)
            jacobian = expansion.jacobian_BPR
            value_B += (self.objective.loss(residual_BR, delta) * weight).sum(axis=1)
            first_BR = pull.first * weight
            gradient_BP[:, places] += (jacobian @ first_BR[:, :, None])[:, :, 0]
            second_BR = pull.second * weight
            gauss = (jacobian * second_BR[:, None, :]) @ jacobian.transpose(0, 2, 1)
            hessian_BPP[:, places[:, None], places] += gauss + law.curvature(own_BP, expansion, first_BR)
            scale_BP[:, places] += ((jacobian**2) @ (pull.weight * weight)[:, :, None])[:, :, 0]
        return Local(value_B, gradient_BP, hessian_BPP, scale_BP)


def _weighted_sum(loss_BR: Floats, weight_BR: Floats | None) -> Floats:
    total: Floats = loss_BR.sum(axis=1) if weight_BR is None else np.einsum("br,br->b", loss_BR, weight_BR)
    return total
