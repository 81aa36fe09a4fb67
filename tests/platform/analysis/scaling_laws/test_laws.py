"""Laws: exact derivatives, published values, limits."""

from __future__ import annotations

import numpy as np
import pytest
from law_tables import AR, MDM, RISING, made_table
from scipy.optimize import check_grad

from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.objectives import OBJECTIVES
from crossover.platform.analysis.scaling_laws.problem import Problem
from crossover.platform.analysis.scaling_laws.sizes import Points
from crossover.platform.analysis.scaling_laws.solving import problem_of

VALUES = {
    "chinchilla": AR,
    "data-constrained": AR,
    "rising": RISING,
    "asymptote": AR,
}


def problem(law: str, objective: str = "squared") -> Problem:
    return problem_of(
        LAWS[law],
        made_table("rising" if law == "rising" else "data-constrained", {"a": VALUES[law]}),
        OBJECTIVES[objective],
    )


def near(law: str, shift: float = 0.03) -> np.ndarray:
    return LAWS[law].internal(VALUES[law])[None] + shift


@pytest.mark.parametrize("law", VALUES)
def test_the_gradient_is_that_of_the_objective(law: str) -> None:
    made = problem(law)
    error = check_grad(
        lambda theta: float(made.value(theta[None])[0]),
        lambda theta: made.local(theta[None], None, 1.0).gradient_BP[0],
        near(law)[0],
        epsilon=1e-7,
    )
    assert error < 1e-5 * np.linalg.norm(made.local(near(law), None, 1.0).gradient_BP)


@pytest.mark.parametrize("law", VALUES)
def test_second_derivatives_are_those_of_the_gradient(law: str) -> None:
    made, theta, step = problem(law), near(law), 1e-6
    hessian = made.local(theta, None, 1.0).hessian_BPP[0]
    unit = np.eye(theta.shape[1]) * step
    ahead, behind = (made.local(theta + sign * unit, None, 1.0).gradient_BP for sign in (1, -1))
    assert np.abs((ahead - behind) / (2 * step) - hessian).max() < 1e-6 * np.abs(hessian).max()


def test_shared_parameters_collect_the_derivatives_of_all_families() -> None:
    table = made_table()
    made = problem_of(LAWS["data-constrained"], table, OBJECTIVES["huber"], frozenset({"E", "alpha", "beta"}))
    assert made.joint.names[:3] == ("E", "A[ar]", "A[mdm]")
    theta = np.zeros((1, len(made.joint.names)))
    for family, values in (("ar", AR), ("mdm", MDM)):
        theta[0, made.joint.places(family)] = LAWS["data-constrained"].internal(values) + 0.01
    gradient = made.local(theta, None, 1e-3).gradient_BP[0]
    for place in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, place] = 1e-7
        slope = (made.value(theta + step) - made.value(theta - step))[0] / 2e-7
        assert slope == pytest.approx(gradient[place], rel=1e-4, abs=1e-8)


def test_the_data_constrained_law_is_the_published_one() -> None:
    """The formula as the paper's notebook writes it, in plain numbers."""
    n, d, u = 2.8e9, 9e11, 4e9
    g = ((AR["alpha"] * AR["A"]) / (AR["beta"] * AR["B"])) ** (1 / (AR["alpha"] + AR["beta"]))
    u_n = min(n, (u * g) ** (AR["beta"] / AR["alpha"]) * g)
    r_n, r_d = n / u_n - 1, d / u - 1
    n_eff = u_n + u_n * AR["R_N*"] * (1 - np.exp(-r_n / AR["R_N*"]))
    d_eff = u + u * AR["R_D*"] * (1 - np.exp(-r_d / AR["R_D*"]))
    expected = AR["E"] + AR["A"] / n_eff ** AR["alpha"] + AR["B"] / d_eff ** AR["beta"]
    law = LAWS["data-constrained"]
    at = Points.of(np.array([n]), np.array([d]), np.array([u]))
    assert np.exp(law.log_loss(law.internal(AR)[None], at))[0, 0] == pytest.approx(expected, rel=1e-12)


def test_boundless_value_of_repeats_is_the_chinchilla_law() -> None:
    values = {**AR, "R_D*": 1e5, "R_N*": 1e5}
    at = Points.of(np.array([1e8]), np.array([8e8]), np.array([4e8]))
    data, plain = (LAWS[name] for name in ("data-constrained", "chinchilla"))
    repeated = data.log_loss(data.internal(values)[None], at)
    assert repeated == pytest.approx(plain.log_loss(plain.internal(values)[None], at), abs=1e-5)


def test_less_than_one_epoch_counts_as_it_is() -> None:
    at = Points.of(np.array([1e8, 1e8]), np.array([1e8, 1e8]), np.array([4e8, 1e8]))
    law = LAWS["data-constrained"]
    few, one = law.log_loss(law.internal({**AR, "R_N*": 1e5})[None], at)[0]
    assert few == pytest.approx(one, abs=1e-5)
