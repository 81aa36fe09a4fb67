"""Fits of made-up tables: the truth comes back, draws cover it, what is not identified is said to be so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from law_tables import AR, MDM, RISING, made_table
from scipy.optimize import minimize
from scipy.stats import t

from crossover.platform.analysis.scaling_laws import FitSettings, LawFit, LossTable, Point, fit_law
from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.objectives import OBJECTIVES
from crossover.platform.analysis.scaling_laws.profiles import rise_allowed
from crossover.platform.analysis.scaling_laws.sizes import Points
from crossover.platform.analysis.scaling_laws.solving import solve

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def joint() -> LawFit:
    return fit_law(made_table(), FitSettings(law="data-constrained", num_draws=100, held_out=False))


def test_the_truth_lies_in_the_intervals(joint: LawFit) -> None:
    truth = {"ar": AR, "mdm": MDM}
    inside = []
    for parameter in joint.parameters:
        name, _, family = parameter.name.partition("[")
        inside.append((parameter.low or 0) <= truth[family.rstrip("]") or "ar"][name] <= (parameter.high or np.inf))
        assert parameter.identified
    assert sum(inside) >= len(inside) - 2


def test_families_share_what_cross_validation_says(joint: LawFit) -> None:
    assert set(joint.shared) == {"E", "alpha", "beta"}  # which is how the table was made
    compared = [set(candidate.shared) for candidate in joint.candidates]
    assert compared == [set(), {"E"}, {"alpha", "beta"}, {"E", "alpha", "beta"}]


def test_no_other_method_finds_a_lower_objective() -> None:
    table = made_table("chinchilla", {"a": AR}, unique=(25e6,))
    found = solve(LAWS["chinchilla"], table, OBJECTIVES["huber"])
    generator = np.random.default_rng(0)
    for _ in range(5):
        start = found.theta_P + generator.normal(0, 0.1, len(found.theta_P))
        other = minimize(
            lambda theta: float(found.problem.value(theta[None])[0]), start, method="Nelder-Mead",
            options={"maxiter": 20_000, "xatol": 1e-10, "fatol": 1e-16},
        )  # fmt: skip
        assert other.fun >= found.value * (1 - 1e-9)
    assert found.converged
    assert found.num_agree == found.num_starts
    assert found.gradient_norm < 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_the_sum_that_it_says(objective: str) -> None:
    table = made_table("chinchilla", {"a": AR}, unique=(25e6,))
    fit = fit_law(table, FitSettings(law="chinchilla", objective=objective, num_draws=20, held_out=False))
    r = fit.log_losses("a", table.params, table.tokens, table.unique)[0] - np.log(table.loss)
    huber = np.where(np.abs(r) <= 1e-3, r**2 / 2, 1e-3 * (np.abs(r) - 0.5e-3))
    expected = {
        "huber": huber,
        "lad": np.abs(r),
        "squared": r**2,
        "asymmetric": huber * np.where(r < 0, 0.5, 1.5),
    }
    assert fit.objective_name == objective
    assert fit.objective == pytest.approx(expected[objective].sum(), rel=1e-9)


def test_rows_of_one_run_are_drawn_together() -> None:
    """An error that all rows of a run have in common widens the intervals; rows drawn one by one would not see it."""
    table = made_table("chinchilla", {"a": AR}, noise=1e-4)
    run = np.array([f"{n:.0f}" for n in table.params])
    shift = dict(zip(np.unique(run), np.random.default_rng(1).normal(0, 0.01, 7), strict=True))
    shifted = replace(table, loss=table.loss * np.exp([shift[name] for name in run]))
    settings = FitSettings(law="chinchilla", num_draws=60, held_out=False)
    together = fit_law(replace(shifted, run=run), settings)
    apart = fit_law(shifted, settings)
    assert together.num_runs == 7
    alpha = [parameter.name for parameter in together.parameters].index("alpha")
    widths = [fit.draws.std(axis=0)[alpha] for fit in (together, apart)]
    assert widths[0] > 1.5 * widths[1]


def test_a_rising_curve_is_fitted_as_best_so_far_and_flagged() -> None:
    table = made_table("rising", {"a": RISING}, noise=1e-3)
    settings = FitSettings(law="data-constrained", num_draws=20, held_out=False)
    fit = fit_law(table, settings)
    assert any(flag.startswith("rising:") and "best loss so far" in flag for flag in fit.flags)
    assert (fit.table.loss <= table.loss).all()
    assert (fit.table.loss < table.loss).any()
    rising = fit_law(table, replace(settings, law="rising"))
    assert not any(flag.startswith("rising:") for flag in rising.flags)
    assert rising.table is table
    assert rising.value("gamma") == pytest.approx(RISING["gamma"], rel=0.1)
    assert rising.value("c") == pytest.approx(RISING["c"], rel=0.2)


def test_auto_takes_the_law_that_predicts_rows_it_has_not_seen() -> None:
    settings = FitSettings(num_draws=20, held_out=False)
    assert fit_law(made_table(families={"a": AR}), settings).law == "data-constrained"
    assert fit_law(made_table("rising", {"a": RISING}, noise=1e-3), settings).law == "rising"


def test_a_size_alone_gives_an_asymptote() -> None:
    n = np.array([7e6, 14e6, 28e6, 56e6, 110e6, 220e6, 440e6])
    loss = 3.43 + 50.0 / n**0.4
    fit = fit_law(LossTable.of({"N": n, "loss": loss}, "sizes", tokens_needed=False), FitSettings(num_draws=20))
    assert fit.law == "asymptote"
    assert fit.value("E") == pytest.approx(3.43, rel=1e-4)


def test_what_repeats_are_worth_is_not_identified_by_few_of_them() -> None:
    table = made_table(families={"a": MDM})
    few = table.take(table.epochs <= 4)
    fit = fit_law(few, FitSettings(law="data-constrained", num_draws=40, held_out=False))
    found = {parameter.name: parameter for parameter in fit.parameters}
    assert not found["R_D*"].identified
    assert found["R_D*"].reason
    assert any(flag.startswith("not-identified: R_D*") and "Flat direction" in flag for flag in fit.flags)


def test_a_profiles_threshold_is_that_of_least_squares_and_wider_where_residuals_are_pulled_to_zero() -> None:
    """Of squares: t^2 RSS / (n - p). Of Huber: as many residuals as parameters say nothing of how steep it is."""
    table = made_table("chinchilla", {"a": AR}).take(np.arange(0, 140, 5))
    squares, huber = (solve(LAWS["chinchilla"], table, OBJECTIVES[name]) for name in ("squared", "huber"))
    quantile = t.ppf(0.975, table.num_rows - 5) ** 2
    expected = quantile * squares.value / (table.num_rows - 5)
    assert rise_allowed(squares, table.clusters, 0.95) == pytest.approx(expected)
    residual = huber.problem.residuals(huber.theta_P[None])[0]
    curved = (np.abs(residual) <= 1e-3).mean()
    plain = (np.minimum(np.abs(residual), 1e-3) ** 2).sum() / curved / (table.num_rows - 5)
    wider = 1 + 5 / table.num_rows * (1 - curved) / curved
    assert rise_allowed(huber, table.clusters, 0.95) == pytest.approx(quantile / 2 * plain * wider**2)


@pytest.mark.slow
def test_predictions_hold_what_was_measured() -> None:
    fit = fit_law(
        made_table(),
        FitSettings(law="data-constrained", share="E+exponents", num_draws=50, predict=[Point("mdm", 1e9, 5e10, 1e8)]),
    )
    asked = fit.predictions[0]
    law = LAWS["data-constrained"]
    truth = np.exp(law.log_loss(law.internal(MDM)[None], Points.of(np.array([1e9]), np.array([5e10]), np.array([1e8]))))
    assert asked.loss == pytest.approx(truth[0, 0], rel=0.005)
    assert asked.low < asked.loss < asked.high
    assert asked.extrapolation > 1
    assert fit.held_out is not None
    assert 0.6 <= fit.held_out.share_inside <= 0.97


def test_json_has_the_documented_names(joint: LawFit) -> None:
    content = json.loads(joint.to_json())
    names = [parameter.name for parameter in joint.parameters]
    for key in ("parameters", "intervals", "identified"):
        assert list(content[key]) == names
    assert content["law"] == "data-constrained"
    assert content["num_rows"] == 280
    assert content["objective"] == pytest.approx(joint.objective)
    assert {"flags", "predictions"} <= content.keys()
    assert len(json.loads(joint.to_json(draws=True))["draws"]) == len(joint.draws)


def test_the_same_seed_gives_the_same_fit() -> None:
    table, settings = made_table("chinchilla", {"a": AR}), FitSettings(law="chinchilla", num_draws=50)
    again = fit_law(table, settings).to_json()
    assert fit_law(table, settings).to_json() == again
    assert fit_law(table, replace(settings, seed=1)).to_json() != again
