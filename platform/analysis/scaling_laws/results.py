"""What a fit found, as plain frozen values: for the page, notebooks and `--json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.profiles import Profile
from crossover.platform.analysis.scaling_laws.sizes import Points
from crossover.platform.analysis.scaling_laws.solving import Solution
from crossover.platform.analysis.scaling_laws.table import LossTable
from crossover.platform.analysis.scaling_laws.validation import Candidate

__all__ = ["SCHEMA_VERSION", "HeldOut", "LawFit", "ParameterFit", "Prediction"]

Floats = NDArray[np.float64]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ParameterFit:
    """One parameter.

    Args:
        name: such as `alpha`, or `R_D*[ar]` where each family has its own.
        value: at the optimum.
        low: lower end of its interval; None: there is none within the search's bounds.
        high: upper end; None likewise.
        method: bootstrap, profile, or given where it was not fitted.
        identified: the interval is bounded and spans less than a factor of ten.
        at_bound: the optimum lies at a bound of the search.
        reason: why it is not identified; None where it is.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    method: str
    identified: bool
    at_bound: bool
    reason: str | None


@dataclass(frozen=True)
class Prediction:
    """The loss of one run, measured or not.

    Args:
        low: lower end of the interval, which holds the error of the law and the noise of one run.
        high: upper end.
        level: of the interval.
        measured: the loss of this run, where it is known.
        extrapolation: FLOPs over the largest that the family was measured at; above 1 beyond the data.
    """

    family: str
    N: float
    D: float
    U: float
    loss: float
    low: float
    high: float
    level: float
    measured: float | None
    extrapolation: float


@dataclass(frozen=True)
class HeldOut:
    """The largest runs, predicted from a fit to the rest.

    Args:
        share_inside: of the held-out runs that lie in their interval.
        median_error: median of |ln predicted - ln measured|.
        scale: by how much these runs miss their intervals before they are widened; predictions of larger runs are
            widened by it.
    """

    predictions: tuple[Prediction, ...]
    num_fitted: int
    share_inside: float
    median_error: float
    scale: float


@dataclass(frozen=True, repr=False)
class LawFit:
    """A law fitted to a table.

    Args:
        law: its name.
        formula: with the source.
        families: their names.
        shared: parameters that they have in common.
        parameters: in the order of the columns of `draws`.
        objective_name: what was minimised over rows.
        objective: the minimised sum.
        gradient_norm: of the scaled gradient, relative.
        num_starts: starts that were followed.
        num_agree: of them, those that ended at this optimum.
        level: of the intervals.
        candidates: laws and sharings that were compared by cross-validation; empty where nothing was to choose.
        flags: what limits the fit, each `code: sentence`.
        profiles: the objective along R_D* and R_N*.
        held_out: None where there are too few rows.
        table: what it was fitted to: best so far, where the law only falls and curves rise.
        solution: the optimum as the numerics know it.
        draws: bootstrap draws of all parameters [B, P], internal coordinates.
    """

    law: str
    formula: str
    families: tuple[str, ...]
    shared: tuple[str, ...]
    parameters: tuple[ParameterFit, ...]
    objective_name: str
    objective: float
    num_rows: int
    num_runs: int
    gradient_norm: float
    num_starts: int
    num_agree: int
    converged: bool
    level: float
    candidates: tuple[Candidate, ...]
    flags: tuple[str, ...]
    profiles: tuple[Profile, ...]
    predictions: tuple[Prediction, ...]
    held_out: HeldOut | None
    source: str
    table: LossTable
    solution: Solution
    draws: Floats

    def __repr__(self) -> str:
        values = ", ".join(f"{p.name}={p.value:.4g}" for p in self.parameters)
        return f"<{self.law} law of {self.num_rows} rows, {self.objective_name} {self.objective:.6g}: {values}>"

    def value(self, name: str, family: str | None = None) -> float:
        """A parameter's value, of one family where they differ.

        Raises:
            KeyError: there is no such parameter.
        """
        found = {p.name: p.value for p in self.parameters}
        return found[name] if name in found else found[f"{name}[{family}]"]

    def log_losses(self, family: str, params: Floats, tokens: Floats, unique: Floats) -> tuple[Floats, Floats]:
        """ln loss of a family at points [R]: at the optimum [R], and of each bootstrap draw [B, R]."""
        joint = self.solution.problem.joint
        places, points = joint.places(family), Points.of(params, tokens, unique)
        best = joint.law.log_loss(self.solution.theta_P[None, places], points)[0]
        return best, joint.law.log_loss(self.draws[:, places], points)

    def residual_errors(self) -> dict[str, float]:
        """By family, what single runs differ from the law by: 1.4826 times the median |residual| of ln loss."""
        size_R = 1.4826 * np.abs(self.solution.problem.residuals(self.solution.theta_P[None])[0])
        return {family: float(np.median(size_R[self.table.family == family])) for family in self.families}

    def range(self) -> dict[str, list[float]]:
        """Smallest and largest N, D, U of the rows."""
        columns = {"N": self.table.params, "D": self.table.tokens, "U": self.table.unique}
        return {name: [float(values.min()), float(values.max())] for name, values in columns.items()}

    def to_dict(self, *, draws: bool = False) -> dict[str, Any]:
        """The documented schema of `crossover fit --json`; with `draws`, a law file."""
        content: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "law": self.law,
            "formula": self.formula,
            "families": list(self.families),
            "shared": list(self.shared),
            "parameters": {p.name: p.value for p in self.parameters},
            "intervals": {p.name: [p.low, p.high] for p in self.parameters},
            "identified": {p.name: p.identified for p in self.parameters},
            "reasons": {p.name: p.reason for p in self.parameters if p.reason},
            "at_bound": [p.name for p in self.parameters if p.at_bound],
            "methods": {p.name: p.method for p in self.parameters},
            "level": self.level,
            "objective": self.objective,
            "objective_name": self.objective_name,
            "num_rows": self.num_rows,
            "num_runs": self.num_runs,
            "num_draws": len(self.draws),
            "gradient_norm": self.gradient_norm,
            "converged": self.converged,
            "num_starts": self.num_starts,
            "num_agree": self.num_agree,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "flags": list(self.flags),
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "residual_errors": self.residual_errors(),
            "range": self.range(),
            "source": self.source,
        }
        if draws:
            content["draws"] = self.solution.problem.joint.natural(self.draws).tolist()
        return _finite(content)  # type: ignore[no-any-return]

    def to_json(self, *, draws: bool = False) -> str:
        """The same as text; what is not known is null."""
        return json.dumps(self.to_dict(draws=draws), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
