"""What may go of a study's checkpoints, in which order, and what is refused before the start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from execution_examples import suggested
from typer.testing import CliRunner

from crossover.platform.cli import app
from crossover.platform.execution.checkpoint_quota import (
    CheckpointQuota,
    check_quota,
    largest_checkpoint,
    needed_bytes,
    running_bytes,
)
from crossover.platform.execution.clean import clean_study
from crossover.platform.execution.decisions import AttemptStarted, DecisionLog, LegEnded, LegStarted, Suggested
from crossover.platform.execution.lock import StudyLock
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.view import StudyView
from crossover.platform.storage.space import FolderSpace
from crossover.platform.study.constraints import checkpoint_size
from crossover.trainers.data import open_corpus
from crossover.trainers.errors import CrossoverError, RecordError
from crossover.trainers.identity import trial_identity
from crossover.trainers.loop import train
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_space import checkpoint_bytes
from crossover.trainers.run import AloneRun

pytestmark = pytest.mark.integration

MakeStudy = Callable[..., Any]


@pytest.fixture
def study_dir(tiny_study: MakeStudy, tmp_path: Path) -> Path:
    """A study of one stratum: trials 0 and 1 have ended, 2 and 3 wait at a rung."""
    study = one_stratum(tiny_study)
    stratum, hash_of_data = study.strata()[0], open_corpus(study.data.corpus).manifest.content_hash
    folder = tmp_path / study.name
    folder.mkdir()
    (folder / "study.yaml").write_text(study.freeze(hash_of_data))
    log = DecisionLog(folder)
    log.append(AttemptStarted(pid=1, host="h", versions={}, resumed=False))
    for number, rate in enumerate((1e-2, 1e-4, 1e-3, 3e-3)):
        settings = {"optimizer.learning_rate": rate}
        config = study.trial_config(stratum, settings)
        trial_id = trial_identity(config, hash_of_data)
        line = {"number": number, "settings": settings, "stratum_label": stratum.label, "config_hash": str(number)}
        log.append(suggested(trial_id, **line))
        log.append(LegStarted(trial_id=trial_id, leg=1))
        directory = folder / "trials" / trial_id
        status = train(config, AloneRun(directory, None if number < 2 else 3000)).status
        assert status == ("ended" if number < 2 else "paused")
        log.append(LegEnded(trial_id=trial_id, leg=1, status=status))
    log.close()
    return folder


def one_stratum(tiny_study: MakeStudy, **changes: Any) -> Any:
    return tiny_study(
        axes__objective__name={"choice": ["autoregressive"], "role": "scientific"},
        stopping={"rule": "none"},
        fixed__checkpoint__min_interval_seconds=0.0,
        search={"sampler": "random", "trials": 4, "scheduler": "cohort_halving"},
        **{"fixed__schedule__epochs": 4, **changes},
    )


def view_of(study: Any, study_dir: Path) -> StudyView:
    from crossover.platform.execution.decisions import read_decisions

    view = StudyView.of(study)
    view.replay(read_decisions(study_dir), study_dir, driver_alive=False)
    return view


def records(study_dir: Path) -> list[TrialRecord]:
    from crossover.platform.execution.decisions import read_decisions

    made = [line.trial_id for line in read_decisions(study_dir) if isinstance(line, Suggested)]
    return [TrialRecord(study_dir / "trials" / trial_id) for trial_id in made]


def test_estimate_is_what_checkpoints_take(tiny_study: MakeStudy, study_dir: Path) -> None:
    study = one_stratum(tiny_study)
    size = checkpoint_size(study.trial_config(study.strata()[0], {"optimizer.learning_rate": 1e-3}))
    weights = records(study_dir)[0].best_weights()
    assert weights.stat().st_size == pytest.approx(size.best_bytes, abs=4096)
    newest = records(study_dir)[2].paths.commit(records(study_dir)[2].paths.commit_numbers()[0]) / "checkpoint"
    written = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    assert written == pytest.approx(size.training_bytes, abs=16_384)


def test_quota_drops_what_costs_least_first_and_keeps_the_best(tiny_study: MakeStudy, study_dir: Path) -> None:
    sizes = largest_checkpoint(one_stratum(tiny_study))
    ended_best, ended, *waiting = records(study_dir)
    before = [record.evaluations() for record in records(study_dir)]
    total = sum(map(checkpoint_bytes, records(study_dir)))

    def keep(max_bytes: int) -> str | None:
        study = one_stratum(tiny_study, checkpoints={"max_bytes": max_bytes})
        missing = CheckpointQuota(study, FolderSpace(study_dir), view_of(study, study_dir)).make_room([])
        assert missing is not None or sum(map(checkpoint_bytes, records(study_dir))) <= max_bytes
        return missing

    def has_state(record: TrialRecord) -> bool:
        return any(record.paths.commits.glob("[0-9]*/checkpoint"))

    assert keep(total) is None
    assert has_state(ended_best) and has_state(ended), "there was room"
    assert keep(total - sizes.training_bytes // 2) is None
    assert has_state(ended_best) != has_state(ended), "no more than needed"
    assert keep(total - 2 * sizes.training_bytes) is None
    assert not has_state(ended_best) and not has_state(ended)
    assert ended.best_weights() and all(len(record.paths.commit_numbers()) == 2 for record in waiting)
    assert keep(total - 2 * sizes.training_bytes - 2 * sizes.best_bytes) is None
    assert ended_best.best_weights(), "the best of its stratum"
    with pytest.raises(RecordError, match="were dropped by `crossover clean`"):
        ended.best_weights()
    assert keep(3 * sizes.best_bytes + 2 * sizes.training_bytes + 20_000) is None
    assert [len(record.paths.commit_numbers()) for record in waiting] == [1, 1]
    assert "cannot be kept" in str(keep(sizes.total_bytes))
    assert [record.evaluations() for record in records(study_dir)] == before
    for record, rate in zip(waiting, (1e-3, 3e-3), strict=True):
        study = one_stratum(tiny_study)
        config = study.trial_config(study.strata()[0], {"optimizer.learning_rate": rate})
        assert train(config, AloneRun(record.path)).status == "ended"
        assert record.evaluations()[: len(before[2])] in before


def test_waiting_trial_whose_newest_checkpoint_is_damaged_keeps_the_one_before(
    tiny_study: MakeStudy, study_dir: Path
) -> None:
    damaged, sound = records(study_dir)[2:]
    newest, older = damaged.paths.commit_numbers()
    next((damaged.paths.commit(newest) / "checkpoint").rglob("*.safetensors")).write_bytes(b"?")
    clean_study(study_dir)
    assert damaged.paths.commit_numbers() == [newest, older]
    assert len(sound.paths.commit_numbers()) == 1


def test_quota_below_what_may_be_needed_at_once_is_refused_with_the_number(tiny_study: MakeStudy) -> None:
    study = one_stratum(tiny_study)
    size = largest_checkpoint(study)
    tensors = 2 * running_bytes(size) + 2 * size.total_bytes + size.best_bytes
    assert tensors < needed_bytes(study, slots=2) < 1.2 * tensors
    check_quota(study, 2)
    with pytest.raises(CrossoverError, match=r"checkpoints\.max_bytes = 1 MB, but 2 running trials.* can need"):
        check_quota(one_stratum(tiny_study, checkpoints={"max_bytes": "1MB"}), 2)
    check_quota(one_stratum(tiny_study, checkpoints={"max_bytes": needed_bytes(study, 2)}), 2)


def test_clean_says_first_and_removes_then_what_is_needed_no_more(study_dir: Path) -> None:
    (study_dir / "ray" / "0001").mkdir(parents=True)
    (study_dir / "ray" / "0001" / "result.json").write_text("{}" * 100)
    ended_best, ended, *waiting = records(study_dir)
    leftover = waiting[0].paths.commits / ".tmp-9"
    leftover.mkdir()
    before = set(study_dir.rglob("*"))
    rows = [record.evaluations() for record in records(study_dir)]
    said = CliRunner().invoke(app, ["clean", str(study_dir), "--dry-run", "--json"])
    assert said.exit_code == 0
    assert set(study_dir.rglob("*")) - {study_dir / "LOCK"} == before
    listed = json.loads(said.stdout)
    assert {entry["what"].split(" of ")[0] for entry in listed["removed"]} == {
        "training state",
        "best weights",
        "older checkpoints",
        "what killed writers left",
        "folders",
    }
    size = sum(path.stat().st_size for path in study_dir.rglob("*") if path.is_file())
    done = CliRunner().invoke(app, ["clean", str(study_dir)])
    assert done.exit_code == 0 and "removed" in done.stdout
    assert size - sum(path.stat().st_size for path in study_dir.rglob("*") if path.is_file()) == listed["bytes"]
    assert [record.evaluations() for record in records(study_dir)] == rows
    assert ended_best.best_weights()
    assert not ended.paths.best.exists()
    assert RecordResults(study_dir).outcome(ended.path.name).ended
    assert not (study_dir / "ray").exists() and not leftover.exists()
    assert json.loads(CliRunner().invoke(app, ["clean", str(study_dir), "--json"]).stdout)["removed"] == []


def test_clean_refuses_while_a_driver_lives_and_what_is_no_study(study_dir: Path, tmp_path: Path) -> None:
    with StudyLock(study_dir), pytest.raises(CrossoverError, match="is being run by process"):
        clean_study(study_dir)
    with pytest.raises(CrossoverError, match="is no study's folder"):
        clean_study(tmp_path)
