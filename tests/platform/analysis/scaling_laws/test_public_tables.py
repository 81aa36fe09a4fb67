"""Known optima and intervals of public tables; skipped where these are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from law_tables import public_table

from crossover.platform.analysis.published_laws import read_law
from crossover.platform.analysis.scaling_laws import FitSettings, LossTable, fit_law, read_losses
from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.objectives import OBJECTIVES
from crossover.platform.analysis.scaling_laws.solving import solve


def chinchilla() -> LossTable:
    return read_losses(public_table("chinchilla_epoch.csv"), where={"excluded_by_epoch": "0"})


def test_chinchilla_optimum_is_the_known_one() -> None:
    found = solve(LAWS["chinchilla"], chinchilla(), OBJECTIVES["huber"])
    assert found.value == pytest.approx(0.0010182740, abs=5e-11)
    values = LAWS["chinchilla"].natural(found.theta_P)
    assert values == pytest.approx([1.81722, 477.83, 2143.4, 0.34731, 0.36717], rel=2e-5)
    assert found.num_agree == found.num_starts


def test_the_published_parameters_are_the_optimum_of_absolute_deviations() -> None:
    found = solve(LAWS["chinchilla"], chinchilla(), OBJECTIVES["lad"])
    _, a, b, _, _ = LAWS["chinchilla"].natural(found.theta_P)
    assert (a, b) == pytest.approx((482.01, 2085.43), rel=1e-4)


@pytest.mark.slow
def test_chinchilla_intervals_are_the_known_ones() -> None:
    fit = fit_law(chinchilla(), FitSettings(law="chinchilla", num_draws=4000, held_out=False))
    ends = {parameter.name: (parameter.low, parameter.high) for parameter in fit.parameters}
    assert ends["A"] == pytest.approx((285, 744), rel=0.05)
    assert ends["B"] == pytest.approx((1042, 5810), rel=0.05)
    assert ends["E"] == pytest.approx((1.769, 1.871), abs=0.005)
    assert ends["alpha"] == pytest.approx((0.317, 0.373), abs=0.005)
    assert ends["beta"] == pytest.approx((0.331, 0.415), abs=0.005)
    assert all(parameter.identified for parameter in fit.parameters)


def test_the_value_of_repeats_is_not_identified_by_the_paper_that_published_it() -> None:
    base = read_law("muennighoff-2023")
    fixed = {name: base.parameters[name] for name in ("E", "A", "B", "alpha", "beta")}
    table = read_losses(public_table("datablations_182.csv"))
    fit = fit_law(table, FitSettings(law="data-constrained", fixed=fixed, num_draws=40, held_out=False))
    problem = fit.solution.problem
    published = problem.joint.law.internal(base.parameters)[None]
    assert problem.value(published)[0] == pytest.approx(0.015825935, abs=5e-9)
    assert fit.objective == pytest.approx(0.0158046625, abs=5e-10)
    assert (fit.value("R_D*"), fit.value("R_N*")) == pytest.approx((95.4, 1.71), rel=0.01)
    found = {parameter.name: parameter for parameter in fit.parameters}
    assert not found["R_D*"].identified
    assert (found["R_D*"].low or 0) < 15.39 < (found["R_D*"].high or np.inf)
    assert any("R_D* is not identified" in flag and "while R_N*" in flag for flag in fit.flags)


def test_gemstones_optimum_is_the_known_one() -> None:
    table = read_losses(public_table("gemstones_hot_100b.csv"))
    assert len(np.unique(table.clusters)) == 22
    assert solve(LAWS["chinchilla"], table, OBJECTIVES["huber"]).value == pytest.approx(0.0065925342, abs=5e-11)


_LARGER = (
    ("chinchilla_epoch.csv", "chinchilla", {}, {"excluded_by_epoch": "0"}),
    ("datablations_182.csv", "data-constrained", {}, {}),
    ("isoflop_marin_dclm.csv", "chinchilla", {}, {}),
    ("xlstm_llama_isoflop_ctx8192.csv", "chinchilla", {}, {}),
    ("gadre_overtrain.csv", "chinchilla", {"loss": "loss_c4", "family": "dataset"}, {}),
    ("olmo_ladder.csv", "chinchilla", {"loss": "c4_en"}, {}),
    ("synthetic_ar_dlm_dev.csv", "data-constrained", {}, {}),
)


@pytest.mark.slow
def test_prediction_intervals_hold_larger_runs_at_their_level() -> None:
    """80 % intervals of the largest fifth of seven public tables, each table weighing as many runs as it has."""
    inside, total = 0.0, 0
    for name, law, columns, where in _LARGER:
        table = read_losses(Path(public_table(name)), columns, where)
        fit = fit_law(table, FitSettings(law=law, share="none", num_draws=100))
        assert fit.held_out is not None, name
        num = len(fit.held_out.predictions)
        inside, total = inside + num * fit.held_out.share_inside, total + num
    assert 0.65 <= inside / total <= 0.92
