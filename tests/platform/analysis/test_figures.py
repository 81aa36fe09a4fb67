from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from synthetic_study import AR, MDM, SyntheticStudy, with_rungs

from crossover.platform.analysis import load_study, write_figure, write_figures
from crossover.platform.analysis.crossings import Quantiles
from crossover.platform.analysis.figures import (
    Drawing,
    FigureError,
    Findings,
    Panel,
    StudyFigure,
    all_figures,
    get_figure,
    iso_flop,
    memorization,
    task_gap,
)
from crossover.platform.analysis.figures.documents import log_ticks, with_colours
from crossover.platform.analysis.figures.drawing import STYLE, drawn
from crossover.platform.analysis.figures.labels import about
from crossover.platform.analysis.figures.thinning import MAX_CURVES, curves_a_panel, evenly, kept_points

pytestmark = pytest.mark.integration

NASTY = "<script>alert(1)</script> $x_ {y}"


@pytest.fixture(scope="module")
def findings(study_folder: Path) -> Findings:
    return Findings.of(study_folder)


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A study of many configurations, halved at two rungs."""
    study = SyntheticStudy(num_seeds=1, num_documents=3, windows_per_document=1, num_tuned=24, recipes=("tuned",),
                           scheduler="cohort_halving")  # fmt: skip
    return Findings.of(with_rungs(study.write(tmp_path_factory.mktemp("runs") / "synthetic")))


def test_figures_are_written_and_the_same_each_time(study_folder: Path, tmp_path: Path) -> None:
    copies = [tmp_path / name / "synthetic" for name in "ab"]
    for copy in copies:
        shutil.copytree(study_folder, copy)
    first, second = (write_figures(copy) for copy in copies)
    assert [path.name for path in first] == ["crossing.svg", "crossing.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("share", np.linspace(0.4, 0.8, 9))
def test_words_beside_a_crossing_stay_within_the_axes(findings: Findings, share: float) -> None:
    pair = findings.pairs[-1]
    first, last = pair.epochs_range
    low = first * (last / first) ** share  # the bar goes from there to the end
    assert pair.answer.envelope is not None
    moved = replace(pair.answer.envelope, epochs=Quantiles(low, low, low, None), probability_none=0.0)
    pairs = [replace(pair, answer=replace(pair.answer, equal_epochs=None, envelope=moved))]
    with mpl.rc_context(STYLE):
        figure = drawn(get_figure("crossing"), get_figure("crossing").draw(SimpleNamespace(pairs=pairs)))
        figure.set_size_inches(5.9, 5)  # as one of two side by side
        figure.draw_without_rendering()
        (axes,) = figure.axes
        (label,) = (text.get_window_extent() for text in axes.texts if "below AR" in text.get_text())
        assert axes.get_window_extent().x0 <= label.x0 and label.x1 <= axes.get_window_extent().x1


def test_a_study_with_one_objective_has_a_figure_without_a_crossing(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,))
    svg, _ = write_figures(study.write(tmp_path / "s"))
    assert svg.stat().st_size > 5_000


def test_nothing_evaluated_gives_no_figure(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=5, recipes=("shared",), objectives=(AR,))
    folder = study.write(tmp_path / "s")
    shutil.rmtree(folder / "trials")
    assert write_figures(folder) == [] and not (folder / "figures").exists()
    with pytest.raises(FigureError, match="nothing was evaluated yet"):
        write_figure("crossing", folder)


def test_a_figure_is_a_function_that_gives_a_plotly_figure(findings: Findings) -> None:
    figure = get_figure("crossing")(findings)
    means = [trace for trace in figure.data if "mean of 3 seeds" in (trace.name or "")]
    drawn = findings.pairs[0].objectives[0]
    assert len(means) == 2 * len(findings.pairs)
    assert np.allclose(np.array(means[0].y, float), drawn.mean()[1], rtol=1e-5)
    assert len({trace.xaxis for trace in figure.data}) == len(findings.pairs)
    assert sum(bool(trace.showlegend) for trace in figure.data) == len({t.name for t in figure.data if t.showlegend})
    assert "--" not in re.sub(r"\w--\w", "", str(figure.to_dict()).replace("'--'", ""))


@pytest.mark.parametrize(
    "name", [name for name in all_figures() if name not in ("iso-flop", "law", "memorization", "task-gap")]
)
def test_every_figure_is_drawn_for_the_page_and_as_a_file(name: str, rungs: Findings, tmp_path: Path) -> None:
    figure = get_figure(name)
    assert figure(rungs).data
    assert write_figure(name, rungs, tmp_path / f"{name}.svg").stat().st_size > 5_000


def test_iso_flop_takes_the_best_of_each_size_within_the_flops(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, num_documents=3, recipes=("shared",), sizes=("100k", "400k"))
    found = Findings.of(study.write(tmp_path / "s"))
    panels = iso_flop.drawing(found).panels
    assert [panel.title for panel in panels] == ["AR", "MDM"]
    levels = [trace for trace in panels[0].document["data"] if trace["mode"] == "lines"]
    assert len(levels) == 5
    trials = [t for t in found.tables.files.values() if t.facts is not None and t.facts.objective == AR]
    for level in levels:
        limit = float(level["name"].split()[1].removesuffix("G")) * 1e9 * 1.005
        for trial in trials:
            assert trial.facts is not None
            best = min(row.val_bits_per_byte for row in trial.evaluations if row.train_flops <= limit)
            assert best == pytest.approx(level["y"][level["x"].index(trial.facts.num_params_active)], abs=1e-4)


def test_the_gap_of_tasks_is_drawn_over_the_loss_and_says_where_each_turns(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=2, num_documents=3, num_tuned=3, tasks=True)
    found = Findings.of(study.write(tmp_path / "s"))
    panels = task_gap.drawing(found).panels
    assert [panel.title for panel in panels] == [pair.answer.title for pair in found.pairs]
    lines = [trace for trace in panels[0].document["data"] if trace["mode"] == "lines" and trace["name"] == "AR"]
    for line, seed in zip(lines, found.pairs[0].objectives[0].seeds, strict=True):
        rows = found.tables.files[seed.trial_id].evaluations
        assert np.allclose(line["x"], [row.val_bits_per_byte for row in rows], rtol=1e-5)
        assert np.allclose(line["y"], [row.task_gap for row in rows], rtol=1e-5)
        loss, gap = int(np.argmin(line["x"])), int(np.argmax(line["y"]))
        assert rows[gap].epoch > rows[loss].epoch  # it overfits its text and still gets better at questions
    assert f"AR {rows[loss].epoch:.3g} and {rows[gap].epoch:.3g}" in panels[0].subtitle
    assert sum(trace["name"] == "other configurations" for trace in panels[1].document["data"]) == 4
    assert write_figure("task-gap", found, tmp_path / "gap.svg").stat().st_size > 5_000
    assert task_gap(found).data


def test_without_tasks_the_gap_says_what_to_set(findings: Findings) -> None:
    with pytest.raises(FigureError, match=r"set evaluation\.tasks"):
        task_gap(findings)


def test_importance_finds_the_axis_that_matters(rungs: Findings) -> None:
    panel = get_figure("importance").drawing(rungs).panels[0]
    bar = panel.document["data"][0]
    assert bar["y"][-1] == "optimizer.learning_rate"  # the loss rises with the number, and the rate falls with it
    assert sum(bar["x"]) == pytest.approx(1, abs=1e-3)


def test_importance_of_few_configurations_is_not_identified(findings: Findings) -> None:
    with pytest.raises(FigureError, match="not identified: it takes 20 configurations of one stratum"):
        get_figure("importance")(findings)


def test_halving_shows_who_was_stopped_where_and_why(rungs: Findings) -> None:
    panel = get_figure("halving").drawing(rungs).panels[0]
    marks = [trace for trace in panel.document["data"] if trace["mode"] == "markers"]
    assert "24 trials came to a rung, 20 were not continued" in panel.subtitle
    assert len(marks[0]["x"]) == 20 and all("beyond the third" in text for text in marks[0]["text"])
    ends = [trace for trace in panel.document["data"] if trace["name"] == "went on to the end"]
    assert len(ends) == 4 and all(trace["x"][-1] == 2 for trace in ends)


def test_a_study_without_rungs_says_so(findings: Findings) -> None:
    with pytest.raises(FigureError, match="no rungs"):
        get_figure("halving")(findings)


def test_a_law_of_one_size_is_not_identified(findings: Findings) -> None:
    with pytest.raises(FigureError, match="takes 3 sizes, and autoregressive, recipe=shared has 1 size"):
        get_figure("law")(findings)


def test_cost_counts_every_trial_once(findings: Findings) -> None:
    compute, time = get_figure("cost").drawing(findings).panels
    trials = findings.tables.trials.to_pylist()
    hours = sum(sum(trace["x"]) for trace in time.document["data"])
    assert hours == pytest.approx(sum(row["wall_seconds"] for row in trials) / 3600, rel=1e-4)
    spent = sum(row["train_flops"] + row["eval_flops"] for row in trials)
    scale = 10.0 ** np.floor(np.log10(spent / sum(sum(t["x"]) for t in compute.document["data"])) + 0.01)
    assert sum(sum(t["x"]) for t in compute.document["data"]) * scale == pytest.approx(spent, rel=1e-4)


def test_words_of_users_are_text_in_every_figure(findings: Findings, tmp_path: Path) -> None:
    document = get_figure("cost").drawing(findings).panels[0].document
    figure = StudyFigure("nasty", NASTY, "", lambda _: Drawing((Panel(NASTY, document, NASTY),)))
    text = str(figure(findings).to_dict())
    assert "<script>" not in text and text.count("&lt;script&gt;") == 3
    with mpl.rc_context(STYLE):
        drawn(figure, figure.drawing(findings)).savefig(tmp_path / "x.svg")  # $x_ is no formula
    trial = replace(findings.pairs[0].objectives[0].seeds[0], settings={NASTY: NASTY})
    assert "<script>" not in about(trial)


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("crosing", "x.svg", r"no figure 'crosing'; did you mean crossing\?. Figures: crossing, loss-flops"),
        ("crossing", "x.gif", r"x.gif: a figure's file ends in one of .svg, .png, .pdf, .html"),
        ("crossing", "none/x.svg", "cannot write .*none/x.svg: No such file or directory; name a file in a folder"),
    ],
)
def test_a_mistake_is_named_and_nothing_written(
    findings: Findings, tmp_path: Path, name: str, file: str, message: str
) -> None:
    with pytest.raises(FigureError, match=message):
        write_figure(name, findings, tmp_path / file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".html", b"<!doctype html>")])
def test_the_ending_says_the_format(findings: Findings, tmp_path: Path, suffix: str, start: bytes) -> None:
    assert write_figure("cost", findings, tmp_path / f"cost{suffix}").read_bytes().startswith(start)


def test_without_a_file_it_goes_into_the_study(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, num_documents=3, recipes=("shared",), objectives=(MDM,)).write(tmp_path / "s")
    assert write_figure("cost", load_study(folder)) == folder / "figures" / "cost.svg"


def test_thinning_keeps_ends_and_best() -> None:
    assert evenly(list(range(1000)), 5) == [0, 250, 500, 749, 999]
    assert evenly([1, 2], 5) == [1, 2]
    kept = kept_points(5_000, best=1234)
    assert {0, 1234, 4999} <= set(kept.tolist()) and len(kept) <= 61
    assert curves_a_panel(1) == MAX_CURVES and curves_a_panel(24) * 24 <= 1_600


def test_tokens_become_colours_and_ticks_stay_few() -> None:
    assert with_colours({"a": ["--autoregressive", 1]}) == {"a": ["#0072B2", 1]}
    assert log_ticks(3, 150)["ticktext"] == ["5", "10", "20", "50", "100"]
    assert log_ticks(1e15, 1e21, si=True)["ticktext"][0] == "10¹⁵"


def test_memorization_is_drawn_where_it_was_measured(findings: Findings) -> None:
    with pytest.raises(FigureError, match="Memorization was not measured"):
        memorization(findings)
    tables = findings.tables
    num = tables.evaluations.num_rows
    columns = {
        "memorization_auc": [0.5 + 0.4 * at / num for at in range(num)],
        "reproduced_fraction": [at / num for at in range(num)],
        "reproduced_held_out_fraction": [0.01] * num,
    }
    evaluations = tables.evaluations.drop_columns(list(columns))
    for name, values in columns.items():
        evaluations = evaluations.append_column(name, pa.array(values))
    names = [f"objective={row['objective']} dropout={row['number']}" for row in tables.trials.to_pylist()]
    place = tables.trials.column_names.index("stratum")
    trials = tables.trials.set_column(place, "stratum", pa.array(names))
    measured = replace(findings, tables=replace(tables, evaluations=evaluations, trials=trials))
    left, right = memorization.drawing(measured).panels
    assert drawn(memorization, Drawing.of([left, right])).axes
    num_trials = len(set(evaluations["trial_id"].to_pylist()))
    assert len(left.document["data"]) == num_trials
    assert len(right.document["data"]) == 2 * num_trials
    assert max(max(trace["y"]) for trace in left.document["data"]) == pytest.approx(max(columns["memorization_auc"]))
