from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crossover.platform.execution.launch import run_study
from crossover.platform.execution.preflight import check_data, check_machine
from crossover.platform.execution.study_folder import study_folder
from crossover.trainers.errors import CorpusError, CrossoverError
from crossover.trainers.model.shapes import shape_of

MakeStudy = Callable[..., Any]
HASH = "0" * 64


def test_corpus_that_is_too_small_for_some_stratum_is_refused_with_its_size(tiny_study: MakeStudy) -> None:
    axis = {"grid": [1024, 10_000_000], "role": "scientific"}
    study = tiny_study(axes__data__unique_tokens=axis)
    with pytest.raises(CorpusError, match=r"10,000,000 in stratum .*unique_tokens=10000000.* has [0-9,]+ training"):
        check_data(study)


def test_missing_corpus_is_refused_before_anything_is_written(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(data__corpus=str(tmp_path / "nowhere"))
    with pytest.raises(CorpusError, match="nowhere"):
        run_study(study, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_workers_find_a_corpus_by_an_absolute_folder(
    tiny_study: MakeStudy, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_corpus.parent)
    corpus = check_data(tiny_study(data__corpus=f"./{tiny_corpus.name}"))
    assert Path(corpus.location) == tiny_corpus


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_storage_without_permission_is_refused(tiny_study: MakeStudy, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CrossoverError, match=r"cannot be written.*--storage"):
        study_folder(tiny_study(), tmp_path)


def test_storage_that_cannot_be_a_folder_is_refused(tiny_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CrossoverError, match=r"cannot be written in .*file.*--storage"):
        study_folder(tiny_study(), tmp_path / "file")


def test_folder_of_the_same_study_is_taken_and_its_budget_may_change(tiny_study: MakeStudy, tmp_path: Path) -> None:
    folder = study_folder(tiny_study(), tmp_path)
    assert folder.is_new
    folder.check_same(tiny_study(), HASH)
    folder.freeze(tiny_study(), HASH)
    again = study_folder(tiny_study(), tmp_path)
    assert not again.is_new
    again.check_same(tiny_study(budget={"flops": 1e12}, search__trials=5), HASH)


def test_folder_of_another_study_is_refused_with_every_difference(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study_folder(tiny_study(), tmp_path).freeze(tiny_study(), HASH)
    other = tiny_study(fixed__schedule__epochs=7, search__seed=3)
    with pytest.raises(CrossoverError) as refused:
        study_folder(other, tmp_path).check_same(other, "1" * 64)
    for expected in ("schedule.epochs: 2 -> 7", "search.seed: 0 -> 3", "another content", "--storage"):
        assert expected in str(refused.value)


def test_trials_whose_study_is_gone_are_not_taken_over(tiny_study: MakeStudy, tmp_path: Path) -> None:
    folder = study_folder(tiny_study(), tmp_path)
    (folder.path / "decisions").mkdir()
    (folder.path / "decisions" / "0001.jsonl").touch()
    with pytest.raises(CrossoverError, match=r"study.yaml is gone.*another --storage"):
        folder.check_same(tiny_study(), HASH)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fixed__execution__device": "cuda"}, r"execution.device is cuda.* set it to auto or cpu"),
        ({"resources": {"cpus_per_worker": 4_000}}, r"cpus_per_worker = 4000 .* RAY_ADDRESS"),
        ({"resources": {"gpus_per_worker": 1.0}}, r"gpus_per_worker = 1, .* 0 GPUs"),
        ({"resources": {"workers": 16, "cpus_per_worker": 512}}, r"resources.workers = 16, .*512.* RAY_ADDRESS"),
        ({"resources": {"workers": 2, "gpus_per_worker": 1}}, r"resources.workers = 2, .* 0 GPUs"),
    ],
)
def test_machine_that_lacks_something_is_told_before_anything_is_written(
    changes: dict[str, Any], says: str, tiny_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(CrossoverError, match=says):
        run_study(tiny_study(**changes), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("resources", "fits"),
    [
        ({"gpus_per_worker": 1.0}, False),
        ({"workers": 2, "gpus_per_worker": 1.0}, True),
    ],
)
def test_model_that_cannot_fit_in_the_memory_of_its_gpus_is_refused(
    resources: dict[str, Any], fits: bool, tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = shape_of(tiny_study().trial_config(tiny_study().strata()[0], {}).model, 259, 257)
    needed = shape.num_params_with_embeddings * 20  # weight, gradient, two moments, average: 4 bytes each
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda gpu: SimpleNamespace(total_memory=0.9 * needed))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    study = tiny_study(resources=resources)
    if fits:
        check_machine(study)
    else:
        with pytest.raises(CrossoverError, match=r"in stratum .* GB a worker.*set more resources.workers"):
            check_machine(study)
