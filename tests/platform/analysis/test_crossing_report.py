"""Crossings of tables and studies: the truth of made-up laws, intervals, bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "scaling_laws"))

from law_tables import AR, MDM, made_losses, made_table, public_table, true_crossing

from crossover.platform.analysis.crossing import (
    CrossingReport,
    CrossingSettings,
    crossings_of_study,
    crossings_of_table,
)
from crossover.platform.analysis.crossing.envelope import FittedFamily, best_over_sizes
from crossover.platform.analysis.scaling_laws import LossTable, LossTableError, read_losses
from crossover.platform.analysis.scaling_laws.laws import LAWS

pytestmark = pytest.mark.integration

QUICK = CrossingSettings(share="E+exponents", num_draws=60)


@pytest.fixture(scope="module")
def report() -> CrossingReport:
    return crossings_of_table(made_table(unique=(25e6, 50e6, 100e6)), QUICK)


def test_the_fitted_envelope_comes_first_and_holds_the_truth(report: CrossingReport) -> None:
    fitted = [entry for entry in report.crossings if entry.kind == "fitted_envelope"]
    assert list(report.crossings[:3]) == fitted
    for entry in fitted:
        truth = true_crossing(AR, MDM, entry.unique_tokens)
        assert entry.flops.estimate == pytest.approx(truth, rel=0.25)
        assert (entry.flops.low or 0) < truth < (entry.flops.high or 0)
        assert (entry.flops.high or 0) / (entry.flops.low or 1) < 3
        assert entry.probability_none == 0
        assert entry.flops.estimate == pytest.approx(
            6 * (entry.params.estimate or 0) * (entry.tokens.estimate or 0), rel=1e-6
        )
        assert entry.tokens.estimate == pytest.approx((entry.epochs.estimate or 0) * entry.unique_tokens)


def test_what_lies_beyond_the_table_is_named_so(report: CrossingReport) -> None:
    short = made_table()
    found = crossings_of_table(short.take(short.epochs <= 128), QUICK)
    entry = found.crossings[0]
    assert entry.extrapolated
    assert not report.crossings[0].extrapolated


def test_critical_compute_is_a_power_of_unique_tokens(report: CrossingReport) -> None:
    assert report.power_law is not None
    assert (report.power_law.p.low or 0) < 2.0 < (report.power_law.p.high or 0)  # equal exponents: C grows as U squared
    two = crossings_of_table(made_table(unique=(25e6, 50e6)), QUICK)
    assert two.power_law is None


def test_data_efficiency_is_what_the_baseline_would_need(report: CrossingReport) -> None:
    found = report.data_efficiency[0]
    law = LAWS["data-constrained"]
    needed = found.needed.estimate or 0
    sizes = (float(np.log(1e5)), float(np.log(1e10)))
    ours = FittedFamily("ar", law, law.internal(AR)[None], sizes)
    best = best_over_sizes(ours, np.log([found.flops]), float(np.log(needed)))
    assert np.exp(best.log_loss[0, 0]) == pytest.approx(found.loss, rel=0.003)
    assert 1.0 < (found.ratio.low or 0) <= (found.ratio.estimate or 0) <= (found.ratio.high or 0)


def test_the_best_over_sizes_is_the_best_of_a_dense_grid() -> None:
    law = LAWS["data-constrained"]
    family = FittedFamily("ar", law, law.internal(AR)[None], (float(np.log(1e5)), float(np.log(1e10))))
    found = best_over_sizes(family, np.log([1e19, 3e14]), float(np.log(1e8)))
    params = np.geomspace(1e5, 1e19 / 6e8, 100_000)
    losses = made_losses("data-constrained", AR, params, 1e19 / (6 * params), np.full(100_000, 1e8))
    assert np.exp(found.log_loss[0, 0]) == pytest.approx(losses.min(), rel=1e-7)
    assert np.exp(found.log_params[0, 0]) == pytest.approx(params[losses.argmin()], rel=0.02)
    assert found.log_loss[0, 1] < np.inf  # 500,000 parameters for one epoch


def test_measured_crossings_lie_where_the_rows_cross() -> None:
    n, e = (values.ravel() for values in np.meshgrid([1e7, 4e7], 2.0 ** np.arange(8)))
    base = {"N": n, "D": e * 1e8, "U": np.full(16, 1e8)}
    rows = {name: np.concatenate([values, values]) for name, values in base.items()}
    falling = {"ar": 4.0 - 0.1 * np.log2(np.minimum(e, 8)), "mdm": 4.2 - 0.1 * np.log2(e)}
    rows["loss"] = np.concatenate(list(falling.values()))
    rows["family"] = np.repeat(["ar", "mdm"], 16)
    found = crossings_of_table(LossTable.of(rows, "steps"), QUICK)
    assert found.law is None
    assert any("no law could be fitted" in note for note in found.notes)
    equal = next(entry for entry in found.crossings if entry.kind == "measured_equal_epochs")
    assert equal.epochs.estimate == pytest.approx(32, rel=1e-6)
    assert equal.params.estimate == 1e7
    envelope = next(entry for entry in found.crossings if entry.kind == "measured_envelope")
    assert envelope.flops.estimate == pytest.approx(6 * 1e7 * 32e8, rel=0.3)
    assert envelope.flops.low is not None


def test_a_challenger_that_never_crosses_is_said_not_to() -> None:
    worse = {**MDM, "B": 2 * MDM["B"], "R_D*": 15.4, "R_N*": 5.3}
    found = crossings_of_table(made_table(families={"ar": AR, "mdm": worse}), QUICK)
    for entry in found.crossings:
        assert entry.flops.estimate is None
        assert entry.probability_none > 0.95


def test_json_has_the_documented_names(report: CrossingReport) -> None:
    content = json.loads(report.to_json())
    first = content["crossings"][0]
    assert first["kind"] == "fitted_envelope"
    assert {"unique_tokens", "flops", "flops_interval", "probability_none"} <= first.keys()
    assert {"epochs", "epochs_interval", "tokens", "tokens_interval"} <= first.keys()
    assert first["flops_interval"][0] < first["flops"] < first["flops_interval"][1]


def test_families_without_overlap_are_an_error() -> None:
    table = made_table(unique=(25e6, 100e6))
    apart = table.take((table.family == "ar") == (table.unique == 25e6))
    with pytest.raises(LossTableError, match="no unique tokens U in common"):
        crossings_of_table(apart, QUICK)
    small = table.take((table.family == "ar") == (table.params < 1e8))
    with pytest.raises(LossTableError, match=r"no sizes \(N\) in common"):
        crossings_of_table(small, QUICK)


def test_families_are_found_by_name_or_named() -> None:
    table = made_table()
    other = replace(table, family=np.where(table.family == "ar", "causal", "noise"))
    with pytest.raises(LossTableError, match="no two families to compare: it has causal, noise"):
        crossings_of_table(other, QUICK)
    with pytest.raises(LossTableError, match="no family casual; did you mean causal"):
        crossings_of_table(other, replace(QUICK, baseline="casual", challenger="noise"))
    found = crossings_of_table(other, replace(QUICK, baseline="causal", challenger="noise", num_draws=20))
    assert found.crossings[0].challenger == "noise"


def test_a_study_gives_its_own_measured_crossings(study_folder: Path) -> None:
    found = crossings_of_study(study_folder, QUICK)
    assert {entry.kind for entry in found.crossings} == {"measured_envelope", "measured_equal_epochs"}
    assert any("no law could be fitted" in note for note in found.notes)  # one size
    for entry in found.crossings:
        assert entry.params.estimate is None or entry.params.estimate > 0


def test_crossings_of_the_public_synthetic_table() -> None:
    truth = {25e6: 2.88e18, 50e6: 1.148e19, 100e6: 4.62e19, 400e6: 7.33e20}
    report = crossings_of_table(read_losses(public_table("synthetic_ar_dlm_dev.csv")), replace(QUICK, num_draws=200))
    for entry in report.crossings[:4]:
        known = truth[entry.unique_tokens]
        low, estimate, high = entry.flops.low, entry.flops.estimate, entry.flops.high
        assert low is not None and estimate is not None and high is not None
        assert 1 / 1.25 < estimate / known < 1.25
        assert low < known < high < 3 * low
