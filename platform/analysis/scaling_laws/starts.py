"""Where searches start: a grid of exponents and shapes, with coefficients that follow from them by least squares.

For given exponents a law is linear in its coefficients, so a start is already a good fit and few are needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Law
from crossover.platform.analysis.scaling_laws.sizes import Points

__all__ = ["grid_of_starts"]

Floats = NDArray[np.float64]
_FLOOR = 0.02  # of the smallest loss: no term and no E starts below it


def grid_of_starts(law: Law, points: Points, log_loss_R: Floats, fixed: Mapping[str, float]) -> Floats:
    """Every combination of the law's start values, [S, P], internal.

    Args:
        law: the law of one family.
        points: of its rows.
        log_loss_R: ln of the losses.
        fixed: reported values of parameters that are not searched.
    """
    choices = [(fixed[p.name],) if p.name in fixed else p.starts or (1.0,) for p in law.parameters]
    theta_SP = np.array(
        [[p.internal(v) for p, v in zip(law.parameters, values, strict=True)] for values in itertools.product(*choices)]
    )
    for _ in range(2):  # N' depends on the coefficients
        theta_SP = _with_coefficients(law, theta_SP, points, log_loss_R, fixed)
    return theta_SP


def _with_coefficients(
    law: Law, theta_SP: Floats, points: Points, log_loss_R: Floats, fixed: Mapping[str, float]
) -> Floats:
    """Coefficients and E by least squares of the relative error, none below a floor."""
    values = law.values(theta_SP)
    num_starts, num_rows = len(theta_SP), len(log_loss_R)
    logs = [-values[t.exponent] * t.size.at(values, points, derivatives=False).log for t in law.terms]
    logs.append(np.zeros((num_starts, num_rows)))
    centres = [log.max(axis=1, keepdims=True) for log in logs]
    columns_SRT = np.stack(
        [
            np.exp(np.broadcast_to(log, (num_starts, num_rows)) - c - log_loss_R)
            for log, c in zip(logs, centres, strict=True)
        ],
        axis=2,
    )
    normal_STT = columns_SRT.transpose(0, 2, 1) @ columns_SRT
    normal_STT += 1e-9 * np.trace(normal_STT, axis1=1, axis2=2)[:, None, None] * np.eye(len(logs))
    found_ST = np.linalg.solve(normal_STT, columns_SRT.sum(axis=1)[:, :, None])[:, :, 0]
    found_ST = np.maximum(found_ST, _FLOOR * np.exp(log_loss_R.min()))
    theta_SP = theta_SP.copy()
    keys = [*(term.coefficient for term in law.terms), "log_E"]
    held = {law.parameter(name).key for name in fixed}
    for place, (key, centre) in enumerate(zip(keys, centres, strict=True)):
        if key not in held:
            theta_SP[:, law.index[key]] = np.log(found_ST[:, place]) - centre[:, 0]
    return theta_SP
