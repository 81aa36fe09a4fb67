"""Overlays: built-in ones are whole, a file works as well, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossover.platform.study import StudyError, builtin_studies, read_study
from crossover.platform.study.overlays import apply_overlay, builtin_overlays

CORPUS = ("data.corpus=corpora/mine",)


@pytest.mark.parametrize("name", [name for name in builtin_studies() if builtin_overlays(name)])
def test_builtin_overlays_make_a_study_of_their_own_at_gpu_scale(name: str) -> None:
    study, large = read_study(name), read_study(name, CORPUS, "gpu")
    assert large.name == f"{name}-gpu"
    assert large.resources.gpus_per_worker == 1
    assert len(large.strata()) >= 1
    assert set(large.labels) == set(study.labels), "it asks the same questions"
    assert large.data.unique_tokens >= 100_000_000


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "crossover-cpu",
        "crossover-control",
        "data-budget",
        "size",
        "epochs",
        "noise",
        "dropout",
        "weight-decay",
        "infinite-compute",
        "coder",
    ],
)
def test_studies_of_papers_can_be_run_at_gpu_scale(name: str) -> None:
    assert "gpu" in builtin_overlays(name)


def test_groups_are_merged_and_null_takes_away() -> None:
    study = {"name": "a", "fixed": {"x": 1, "y": 2}, "axes": {"p": {"choice": [1], "role": "scientific"}, "q": {}}}
    merged = apply_overlay(study, {"name": "b", "fixed": {"y": 3, "z": None}, "axes": {"q": None}})
    assert merged == {"name": "b", "fixed": {"x": 1, "y": 3}, "axes": {"p": {"choice": [1], "role": "scientific"}}}
    assert study["name"] == "a"


def test_a_file_is_an_overlay_too_and_overrides_come_last(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nfixed: {schedule.epochs: 10, model.size: 100k}\n")
    study = read_study("noise", ("schedule.epochs=20",), str(tmp_path / "mine.yaml"))
    assert (study.name, study.fixed["model.size"], study.fixed["schedule.epochs"]) == ("mine", "100k", 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "an overlay is a mapping of settings"),
        ("axis: {}\n", "axis: a study has no such setting"),
        ("fixed: {schedule.epoch: 3}\n", "schedule.epoch"),
    ],
)
def test_a_wrong_overlay_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(StudyError, match=message):
        read_study("noise", (), str(tmp_path / "wrong.yaml"))


def test_an_unknown_overlay_names_those_that_there_are() -> None:
    with pytest.raises(StudyError, match=r"no overlay of noise \(there is: gpu\)"):
        read_study("noise", (), "tpu")


def test_a_study_whose_name_begins_with_anothers_keeps_its_overlay() -> None:
    assert builtin_overlays("crossover") == []
    assert builtin_overlays("crossover-cpu") == ["gpu"]
