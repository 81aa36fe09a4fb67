"""`--set key=value` reaches every part of a study, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossover.platform.study import Study, StudyError, read_study
from crossover.search_spaces import Choice, LogUniform


def quickstart(*overrides: str) -> Study:
    return read_study("quickstart", overrides)


def test_sections_fixed_settings_and_bare_paths_are_set() -> None:
    study = quickstart(
        "search.trials=5",
        "name=other",
        "data.unique_tokens=24k",
        "stopping.patience=2",
        "budget.flops=4e13",
        "fixed.model.size=1M",
        "schedule.epochs=1e1",
        "evaluation.ratio=1.5",
    )
    assert (study.search.trials, study.name, study.data.unique_tokens) == (5, "other", 24_000)
    assert (study.stopping.patience, study.budget.flops) == (2, 4e13)
    assert (study.fixed["model.size"], study.fixed["schedule.epochs"]) == ("1M", 10.0)
    assert study.fixed["evaluation.ratio"] == 1.5


def test_last_one_wins() -> None:
    assert quickstart("search.trials=5", "search.trials=6").search.trials == 6


def test_axis_gets_another_domain_a_condition_or_goes() -> None:
    study = quickstart("axes.optimizer.learning_rate.choice=[1e-3, 3e-3]")
    assert study.axes["optimizer.learning_rate"].domain == Choice((1e-3, 3e-3))
    assert study.axes["optimizer.learning_rate"].when == {"recipe": "tuned"}
    study = quickstart("axes.optimizer.beta2={log_uniform: [0.9, 0.99], role: nuisance, when: {recipe: tuned}}")
    assert study.axes["optimizer.beta2"].domain == LogUniform(0.9, 0.99)
    assert "optimizer.weight_decay" not in quickstart("axes.optimizer.weight_decay=null").axes


def test_nothing_is_changed_without_overrides() -> None:
    assert quickstart() == read_study("quickstart")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("search.trials", "write key=value"),
        ("=4", "write key=value"),
        ("learning_rate=1e-3", "did you mean optimizer.learning_rate?"),
        ("serch.trials=4", "did you mean search.trials?"),
        ("recipe=tuned", "no such setting"),
        ("search.trails=4", "did you mean trials?"),
        ("search.trials=four", "valid integer"),
        ("search.trials=[1", "--set search.trials: line 1"),
        ("schedule.epochs=-1", "fixed.schedule.epochs: Input should be greater than 0"),
        ("axes.nothing=null", "the study has no such axis"),
        ("axes=3", "axes: must be a mapping"),
        ("axes.objective.name.choice=autoregressive", "must be a list"),
        ("data.unique_tokens=24q", "the unit 'q'"),
    ],
)
def test_wrong_override_is_refused(override: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        quickstart(override)
    assert says in str(caught.value)


def test_default_that_an_axis_hides_cannot_be_set_in_vain() -> None:
    with pytest.raises(StudyError, match=r"it is an axis of this study: set axes.data.unique_tokens.choice"):
        read_study("crossover-cpu", ["data.unique_tokens=24k"])


def test_override_of_a_broken_file_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    for text in ("[1, 2]", "search: 3", "axes: {recipe: 3}"):
        file.write_text(text)
        with pytest.raises(StudyError):
            read_study(file, ["search.trials=3", "axes.recipe.choice=[a]"])


def test_every_section_of_a_study_can_be_set() -> None:
    study = read_study("quickstart", ["checkpoints.max_bytes=1.5GiB", "budget.device_hours=2"])
    assert (study.checkpoints.max_bytes, study.budget.device_hours) == (3 * 2**29, 2.0)
    with pytest.raises(StudyError, match="is no size: write bytes such as 500MB"):
        read_study("quickstart", ["checkpoints.max_bytes=lots"])
    assert read_study("quickstart").same_questions(study) == []
