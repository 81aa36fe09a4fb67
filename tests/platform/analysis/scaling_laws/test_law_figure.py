from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from law_tables import AR, MDM, made_table

from crossover.platform.analysis.figures import Drawing, law
from crossover.platform.analysis.figures.assembling import plotly_figure
from crossover.platform.analysis.figures.drawing import STYLE, drawn
from crossover.platform.analysis.report_tables import law_rows
from crossover.platform.analysis.scaling_laws import FitSettings, LawFit, fit_law

BASE = {name: AR[name] for name in ("E", "A", "B", "alpha", "beta")}


@pytest.fixture(scope="module")
def fit() -> LawFit:
    table = made_table("chinchilla", {"autoregressive": BASE, "masked_diffusion": {**BASE, "B": MDM["B"]}})
    return fit_law(table, FitSettings(law="chinchilla", share="none", num_draws=40))


def drawing(known: Any) -> Drawing:
    return law.draw(SimpleNamespace(law=known))  # type: ignore[arg-type]


def test_the_law_is_drawn_with_residuals_and_what_it_had_not_seen(fit: LawFit) -> None:
    fitted, residuals, held_out = drawing(fit).panels
    ar = next(trace for trace in fitted.document["data"] if trace["name"] == "autoregressive")
    assert np.allclose(ar["y"], fit.table.loss[fit.table.family == "autoregressive"], rtol=1e-5)
    best, _ = fit.log_losses(*("autoregressive", *(column[fit.table.family == "autoregressive"] for column in (
        fit.table.params, fit.table.tokens, fit.table.unique))))  # fmt: skip
    assert np.allclose(ar["x"], np.exp(best), rtol=1e-5)
    assert np.allclose(residuals.document["data"][0]["y"], 100 * (np.log(ar["y"]) - best), atol=2e-3)
    assert fit.held_out is not None
    shown = [trace for trace in held_out.document["data"] if trace["mode"] == "markers"]
    bars = [trace for trace in held_out.document["data"] if trace["mode"] == "lines"]
    inside = [low <= y <= high for trace, marks in zip(bars, shown, strict=True)
              for y, low, high in zip(marks["y"], trace["y"][::3], trace["y"][1::3], strict=True)]  # fmt: skip
    assert len(inside) == len(fit.held_out.predictions)
    assert np.mean(inside) == pytest.approx(fit.held_out.share_inside)


def test_both_renderers_draw_it(fit: LawFit, tmp_path: Any) -> None:
    assert len(plotly_figure(law, drawing(fit)).data) == 9
    with mpl.rc_context(STYLE):
        drawn(law, drawing(fit)).savefig(tmp_path / "law.png")
    assert (tmp_path / "law.png").stat().st_size > 20_000


def test_parameters_stand_in_the_page_with_their_intervals(fit: LawFit) -> None:
    rows = law_rows(fit)
    assert [row["name"] for row in rows] == [parameter.name for parameter in fit.parameters]
    assert all(row["interval"].startswith("[") for row in rows)
    assert law_rows("A scaling law is not identified: why") == []


def test_what_is_not_identified_is_a_sentence_and_no_panel() -> None:
    found = drawing("A scaling law is not identified: why")
    assert found.panels == () and found.notes == ("A scaling law is not identified: why",)
