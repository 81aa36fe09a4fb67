"""The study in a folder is the one that was started, and only the same questions go on there."""

from __future__ import annotations

import pickle
from importlib.metadata import version
from pathlib import Path

import optuna
import pytest
import yaml

from crossover.platform.study import FrozenStudy, Study, StudyError, builtin_studies, read_frozen, read_study


def frozen(study: Study, folder: Path) -> FrozenStudy:
    (folder / "study.yaml").write_text(study.freeze("0123abcd"))
    return read_frozen(folder)


@pytest.mark.parametrize("name", builtin_studies())
def test_frozen_study_is_read_back_whole(name: str, tmp_path: Path) -> None:
    study = read_study(name)
    back = frozen(study, tmp_path)
    assert back.study == study
    assert (back.data_hash, back.version) == ("0123abcd", version("crossover"))
    assert back.differences(study) == []
    for here, there in zip(study.strata(), back.study.strata(), strict=True):
        assert here == there
        ask = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask
        settings = study.space.suggest(here, ask(), 0)
        assert study.trial_config(here, settings) == back.study.trial_config(there, settings)
    assert read_frozen(tmp_path / "study.yaml") == back


@pytest.mark.parametrize(
    "override",
    [
        "budget.flops=4e13",
        "storage=/tmp/elsewhere",
        "resources.cpus_per_worker=4",
        "description=other words",
        "search.trials=40",
        "search.final_repeats=7",
        "checkpoint.interval_seconds=60",
        "execution.precision=float32",
        "evaluation.ratio=1.5",
    ],
)
def test_what_changes_no_result_may_differ(override: str) -> None:
    assert read_study("quickstart").same_questions(read_study("quickstart", [override])) == []


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("name=other", "name: quickstart -> other"),
        ("model.size=1M", "fixed.model.size: 400k -> 1M"),
        ("optimizer.beta2=0.99", "fixed.optimizer.beta2: 0.95 -> 0.99"),
        ("data.seed=1", "data.seed: 0 -> 1"),
        ("stopping.z=3.0", "stopping.z: 2.0 -> 3.0"),
        ("search.seed=1", "search.seed: 0 -> 1"),
        ("search.trials=1", "search.trials: "),
        ("axes.regularization.dropout=null", "axes.regularization.dropout: "),
        ("axes.regularization.dropout.choice=[0.0, 0.5, 0.6, 0.7, 0.8]", "axes.regularization.dropout: "),
    ],
)
def test_what_changes_results_is_named(override: str, difference: str) -> None:
    # a wide axis besides, so that fewer values elsewhere leave enough configurations
    wide = "axes.optimizer.learning_rate={log_uniform: [1e-4, 1e-2], role: nuisance, when: {recipe: tuned}}"
    (found,) = read_study("quickstart", [wide]).same_questions(read_study("quickstart", [wide, override]))
    assert found.startswith(difference)


def test_axes_in_another_order_draw_other_settings() -> None:
    study = read_study("quickstart")
    turned = study.model_copy(update={"axes": dict(reversed(study.axes.items()))})
    (found,) = study.same_questions(turned)
    assert found.startswith("order of axes: recipe, objective.name")


def test_study_travels_to_another_process_whole() -> None:
    study = read_study("quickstart")
    there = pickle.loads(pickle.dumps(study))
    assert there == study
    assert there.strata() == study.strata()


def test_lower_trials_say_that_they_may_only_grow() -> None:
    many = read_study("quickstart", ["search.trials=9"])
    assert many.same_questions(read_study("quickstart", ["search.trials=8"])) == [
        "search.trials: 9 -> 8 (it may only be raised)"
    ]


def test_default_that_this_version_changed_keeps_a_study_from_going_on(tmp_path: Path) -> None:
    study = read_study("quickstart")
    document = yaml.safe_load(study.freeze("0123abcd"))
    document["crossover_version"] = "0.0.9"
    document["defaults"]["optimizer.beta2"] = 0.999
    del document["defaults"]["averaging.horizon_fraction"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    found = read_frozen(tmp_path).differences(study)
    assert found == [
        f"optimizer.beta2: default 0.999 in Crossover 0.0.9 -> 0.95 in {version('crossover')}",
        f"averaging.horizon_fraction: default not set in Crossover 0.0.9 -> 0.1 in {version('crossover')}",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 99}, "its format is 99 .Crossover .*and this version reads 1"),
        ({"schema_version": True}, "its format is True"),
        ({"data_hash": 3}, "is damaged"),
        ({"defaults": None}, "is damaged"),
        ({"study": None}, "written by Crossover .*this is empty"),
        ({"study": {"name": "x", "new_field": 1}}, "new_field: no such field"),
    ],
)
def test_folder_of_another_version_or_damaged_is_refused(change: dict[str, object], says: str, tmp_path: Path) -> None:
    document = yaml.safe_load(read_study("quickstart").freeze("0123abcd")) | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(StudyError, match=says):
        read_frozen(tmp_path)


def test_frozen_study_with_impossible_axes_is_refused(tmp_path: Path) -> None:
    document = yaml.safe_load(read_study("quickstart").freeze("0123abcd"))
    document["study"]["axes"]["optimizer.name"]["when"] = {"nothing": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(StudyError, match=r"axes.optimizer.name.when.nothing"):
        read_frozen(tmp_path)


def test_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="No such file"):
        read_frozen(tmp_path)
    (tmp_path / "study.yaml").write_text("name: quickstart")
    with pytest.raises(StudyError, match="was not written by `crossover run`"):
        read_frozen(tmp_path)


@pytest.mark.parametrize("content", [b"schema_version: [1", b"\xff\xfe", b"a:\n\tb: 1"])
def test_frozen_study_that_is_no_yaml_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=r"its study.yaml is damaged \(.*restore it from a copy"):
        read_frozen(tmp_path)
