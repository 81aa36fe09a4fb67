"""The view for optuna-dashboard, of a study of real trials: whole, and growing as if it ran."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from crossover.platform.execution.optuna_view import OptunaView
from crossover.platform.study import StudyError

DATA = Path(__file__).parents[2] / "data"

pytestmark = pytest.mark.integration


@pytest.fixture
def study_dir(real_study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(real_study, tmp_path / "crossover-cpu")


def read(journal: Path) -> dict[str, list[FrozenTrial]]:
    """As another process reads it."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {study.study_name: study.trials for study in map(_load(storage), optuna.get_all_study_names(storage))}


def _load(storage: JournalStorage) -> Any:
    return lambda name: optuna.load_study(study_name=name, storage=storage)


def facts(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    names = ("number", "state", "values", "params", "distributions", "user_attrs", "intermediate_values")
    return [tuple(getattr(trial, name) for name in names) for trial in trials]


def test_each_stratum_is_a_study_with_its_trials_values_and_axes(study_dir: Path) -> None:
    rows = pq.read_table(DATA / "crossover-cpu-trials.parquet").to_pylist()
    studies = read(OptunaView(study_dir).path)
    for stratum in {row["stratum"] for row in rows}:
        trials = {trial.user_attrs["trial_id"]: trial for trial in studies[f"crossover-cpu: {stratum}"]}
        assert trials.keys() >= {row["trial_id"] for row in rows if row["stratum"] == stratum}
        for row in rows:
            if row["stratum"] != stratum:
                continue
            trial = trials[row["trial_id"]]
            assert trial.state == TrialState.COMPLETE
            assert trial.value == pytest.approx(row["best_bits_per_byte"])
            assert trial.user_attrs["stop_reason"] == row["stop_reason"]
            assert all(row[path] == value for path, value in trial.params.items())
            assert bool(trial.params) == ("recipe=tuned" in stratum)


def test_intermediate_values_are_the_evaluations(study_dir: Path) -> None:
    evaluations = pq.read_table(DATA / "crossover-cpu-evaluations.parquet").to_pylist()
    trials = [trial for trials in read(OptunaView(study_dir).path).values() for trial in trials]
    for trial in trials:
        mine = [row for row in evaluations if row["trial_id"] == trial.user_attrs["trial_id"]]
        assert trial.intermediate_values == {row["tokens_seen"]: row["val_bits_per_byte"] for row in mine}


def test_view_that_follows_a_running_study_comes_to_what_a_rebuilt_one_shows(study_dir: Path) -> None:
    decisions = next((study_dir / "decisions").iterdir())
    lines = decisions.read_bytes().splitlines(keepends=True)
    ends = sorted(study_dir.glob("trials/*/end.json"))
    contents = [end.read_bytes() for end in ends]
    for end in ends:
        end.unlink()
    decisions.write_bytes(b"".join(lines[:40]))
    view = OptunaView(study_dir)
    early = [trial for trials in read(view.path).values() for trial in trials]
    assert {trial.state for trial in early} == {TrialState.RUNNING, TrialState.WAITING}
    for size in (80, len(lines)):
        decisions.write_bytes(b"".join(lines[:size]))
        for end, content in list(zip(ends, contents, strict=True))[:size]:
            end.write_bytes(content)
        view.update()
    followed = {name: facts(trials) for name, trials in read(view.path).items()}
    rebuilt = {name: facts(trials) for name, trials in read(OptunaView(study_dir).path).items()}
    assert followed == rebuilt
    assert {state for trials in followed.values() for _, state, *_ in trials} == {TrialState.COMPLETE}


def test_view_is_deleted_and_rebuilt_without_a_loss(study_dir: Path) -> None:
    first = OptunaView(study_dir)
    before = {name: facts(trials) for name, trials in read(first.path).items()}
    first.path.unlink()
    assert {name: facts(trials) for name, trials in read(OptunaView(study_dir).path).items()} == before


@pytest.mark.parametrize(("reason", "state"), [("pruned", TrialState.PRUNED), ("failed", TrialState.FAIL)])
def test_stopped_and_failed_trials_have_states_of_their_own(study_dir: Path, reason: str, state: TrialState) -> None:
    end = sorted(study_dir.glob("trials/*/end.json"))[0]
    text = end.read_text()
    end.write_text(text.replace('"overfit"', f'"{reason}"').replace('"completed"', f'"{reason}"'))
    shown = [t for trials in read(OptunaView(study_dir).path).values() for t in trials]
    (trial,) = [t for t in shown if t.user_attrs["trial_id"] == end.parent.name]
    assert trial.state == state
    assert (trial.values is None) == (state == TrialState.FAIL)


def test_folder_without_a_study_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml"):
        OptunaView(tmp_path)
    assert not list(tmp_path.iterdir())
