"""A study gives strata, configurations and seeds, each as its document says."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from pydantic import ValidationError

from crossover.platform.study import Study, StudyError, builtin_studies, read_study
from crossover.search_spaces import Scalar
from crossover.trainers.config import TrialConfig
from crossover.trainers.identity import trial_identity

DOCUMENT = """
name: example
data: {corpus: python-stdlib, unique_tokens: 24_576, seed: 5}
fixed:
  model.size: 400k
  schedule.epochs: 2e2
  optimizer.weight_decay: 0.1
  seed: 3
axes:
  recipe: {choice: [shared, tuned], role: scientific}
  objective.name: {choice: [autoregressive, masked_diffusion], role: scientific}
  regularization.dropout: {choice: [0.0, 0.1, 0.3], role: nuisance, when: {recipe: tuned}}
  optimizer.weight_decay: {log_uniform: [0.1, 1.6], role: nuisance, when: {recipe: tuned}}
  regularization.input_noise: {choice: [0, 0.1], role: nuisance, when: {recipe: tuned, objective.name: autoregressive}}
search: {trials: 12}
budget: {flops: 80T}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "example.yaml"
    file.write_text(DOCUMENT)
    return read_study(file)


def test_document_is_read_with_its_numbers_and_defaults(study: Study) -> None:
    assert study.data.unique_tokens == 24_576
    assert study.data.sequence_length == 128
    assert study.fixed["schedule.epochs"] == 200.0
    assert study.budget.flops == 8e13
    assert study.search.repeats == study.search.num_final_repeats == 1
    assert study.storage == "./runs"


def test_only_strata_with_sampled_axes_have_more_than_one_configuration(study: Study) -> None:
    assert {stratum.label: study.num_configurations(stratum) for stratum in study.strata()} == {
        "recipe=shared objective=autoregressive": 1,
        "recipe=shared objective=masked_diffusion": 1,
        "recipe=tuned objective=autoregressive": 12,
        "recipe=tuned objective=masked_diffusion": 12,
    }


def test_trial_is_data_fixed_stratum_and_settings_in_this_order(study: Study) -> None:
    shared, _, tuned, _ = study.strata()
    assert study.trial_config(shared, {}) == TrialConfig.model_validate(
        {
            "data": {"corpus": "python-stdlib", "unique_tokens": 24_576, "sequence_length": 128, "seed": 5},
            "model": {"size": "400k"},
            "objective": {"name": "autoregressive"},
            "schedule": {"epochs": 200.0},
            "seed": 3,
        }
    )
    config = study.trial_config(tuned, {"optimizer.weight_decay": 0.8, "regularization.dropout": 0.3})
    assert (config.optimizer.weight_decay, config.regularization.dropout) == (0.8, 0.3)


def test_each_repeat_moves_training_seed_and_text_together(study: Study) -> None:
    stratum = study.strata()[0]
    configs = [study.trial_config(stratum, {}, repeat) for repeat in range(3)]
    assert [(config.seed, config.data.seed) for config in configs] == [(3, 5), (4, 6), (5, 7)]
    assert len({trial_identity(config, "hash") for config in configs}) == 3


def test_repeats_can_keep_their_text_as_an_ensemble_needs(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(DOCUMENT.replace("search: {trials: 12}", "search: {trials: 12, vary_data: false}"))
    study = read_study(file)
    configs = [study.trial_config(study.space.strata()[0], {}, repeat) for repeat in range(3)]
    assert [(config.seed, config.data.seed) for config in configs] == [(3, 5), (4, 5), (5, 5)]


def test_stopping_reaches_the_trial(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(DOCUMENT + "stopping: {patience: 5, plateau_evaluations: 9}\n")
    study = read_study(file)
    config = study.trial_config(study.strata()[0], {})
    assert (config.stopping.patience, config.stopping.plateau_evaluations, config.stopping.z) == (5, 9, 2.0)


def test_unique_tokens_may_be_an_axis_in_counts(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(
        """
name: sizes
data: {corpus: python-stdlib, unique_tokens: 8k}
fixed: {model.size: 400k, schedule.epochs: 10, objective.name: autoregressive}
axes:
  data.unique_tokens: {grid: [24k, 1.5M], role: scientific}
  regularization.dropout: {grid: [0, 0.2], role: nuisance, when: {data.unique_tokens: 24k}}
"""
    )
    study = read_study(file)
    assert [stratum.label for stratum in study.strata()] == ["unique_tokens=24000", "unique_tokens=1500000"]
    assert [study.num_configurations(stratum) for stratum in study.strata()] == [2, 1]
    assert study.trial_config(study.strata()[1], {}).data.unique_tokens == 1_500_000


def test_every_draw_of_the_builtin_studies_is_a_configuration() -> None:
    assert {"quickstart", "crossover-cpu"} <= set(builtin_studies())
    for name in builtin_studies():
        study = read_study(name)
        assert study.name == name
        for stratum in study.strata():
            source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            for number in range(5):
                settings = study.space.suggest(stratum, source.ask(), number)
                config = study.trial_config(stratum, settings)
                assert config.objective.name == stratum.settings.get("objective.name", "autoregressive")


def test_builtin_studies_tune_both_objectives_alike() -> None:
    for name in builtin_studies():
        study = read_study(name)
        by_objective: dict[Scalar, list[int]] = {}
        for stratum in study.strata():
            objective = stratum.settings.get("objective.name", study.fixed.get("objective.name"))
            by_objective.setdefault(objective, []).append(study.num_configurations(stratum))
        assert sum(by_objective["autoregressive"]) >= sum(by_objective.get("masked_diffusion", []))


def test_study_cannot_be_changed(study: Study) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"


def test_unknown_name_shows_the_near_one_and_else_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="did you mean quickstart"):
        read_study("quikstart")
    with pytest.raises(StudyError, match="coder, crossover-control, crossover-cpu, data-budget"):
        read_study("zzz")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("missing.yaml", "No such file"),
        ("/", "neither a file|a folder: give a file"),
        ("a\0b.yaml", "null byte"),
        ("", "neither"),
    ],
)
def test_source_that_cannot_be_read_is_an_error_of_the_user(source: str, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        read_study(source)


def test_folder_is_no_study_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="a folder: give a file"):
        read_study(tmp_path)


def test_started_study_is_not_taken_for_a_study_file(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(read_study("quickstart").freeze("0123abcd"))
    for source in (tmp_path, tmp_path / "study.yaml"):
        with pytest.raises(StudyError, match=r"a study that was started\. To go on with it, give what it was started"):
            read_study(source)


def test_name_that_is_none_says_which_are(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"'a/b' must match .*letters, digits, .* 64 at most"):
        read_study("quickstart", ["name=a/b"])
