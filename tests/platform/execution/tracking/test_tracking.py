"""What trackers are told of a study of real trials: everything once, also over several attempts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from offline_run import artifacts, config, history, summary

from crossover.platform.execution.decisions import read_decisions
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.tracking import Tracking, check_tracking, open_tracking
from crossover.platform.execution.tracking.base import TrackedTrial, Tracker
from crossover.platform.execution.tracking.told import Told
from crossover.platform.execution.view import StudyView
from crossover.platform.study import read_frozen
from crossover.platform.study.errors import StudyError
from crossover.platform.study.model import TrackingConfig
from crossover.trainers.errors import CrossoverError
from crossover.trainers.rows import Evaluation, TrialEnd

pytestmark = pytest.mark.integration

NUM_TRIALS = 4


@pytest.fixture
def study_dir(real_study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(real_study, tmp_path / "crossover-cpu")


def some_trials(study_dir: Path) -> list[tuple[Any, str]]:
    view = StudyView.of(read_frozen(study_dir).study)
    view.replay(read_decisions(study_dir), study_dir, driver_alive=False)
    return view.placed[:NUM_TRIALS]


def track(study_dir: Path, said: list[str] | None = None, **settings: Any) -> Tracking:
    study = read_frozen(study_dir).study
    study = study.model_copy(update={"tracking": TrackingConfig(**settings)})
    return open_tracking(study, study_dir, RecordResults(study_dir), (said if said is not None else []).append)


class Listener(Tracker):
    """Writes down what it is told."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.steps: Counter[tuple[str, int]] = Counter()
        self.ends: Counter[str] = Counter()
        self.closed = False

    def rows(self, trial: TrackedTrial, rows: Sequence[Evaluation]) -> None:
        if self.fails:
            raise ConnectionError("no route")
        self.steps.update((trial.trial_id, row.step) for row in rows)

    def end(self, trial: TrackedTrial, end: TrialEnd) -> None:
        self.ends[trial.trial_id] += 1

    def leave(self, trial_id: str) -> None:
        pass

    def publish(self, report: Path) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def listen(study_dir: Path, *listeners: Listener, said: list[str] | None = None) -> Tracking:
    told = Told(study_dir / "tracking" / "told.jsonl")
    return Tracking(list(listeners), RecordResults(study_dir), told, (said if said is not None else []).append)


def test_every_row_and_end_is_told_once_over_two_attempts(study_dir: Path) -> None:
    trials, listener = some_trials(study_dir), Listener()
    record = RecordResults(study_dir).record(trials[0][0].trial_id)
    end = record.paths.end.read_bytes()
    record.paths.end.unlink()  # the first attempt was killed before this trial ended
    for _ in range(2):
        tracking = listen(study_dir, listener)
        tracking.start(trials)
        tracking.row(*trials[0])
        tracking.close(trials, None)
        record.paths.end.write_bytes(end)
    expected = {
        (view.trial_id, row.step)
        for view, _ in trials
        for row in RecordResults(study_dir).record(view.trial_id).evaluations()
    }
    assert listener.steps == Counter(dict.fromkeys(expected, 1))
    assert listener.ends == Counter({view.trial_id: 1 for view, _ in trials})
    assert listener.closed


def test_a_tracker_that_fails_is_named_once_and_the_others_are_told(study_dir: Path) -> None:
    trials, said, listener = some_trials(study_dir), [], Listener()
    tracking = listen(study_dir, Listener(fails=True), listener, said=said)
    tracking.start(trials)
    tracking.close(trials, None)
    assert said == ["tracking: Listener failed and is told no more: ConnectionError: no route"]
    assert len(listener.ends) == NUM_TRIALS


def test_a_line_of_what_was_told_that_a_kill_cut_short_is_passed_over(tmp_path: Path) -> None:
    told = Told(tmp_path / "told.jsonl")
    told.note_step("a", 7)
    told.close()
    with (tmp_path / "told.jsonl").open("a") as file:
        file.write('{"trial_id": "a", "st')
    again = Told(tmp_path / "told.jsonl")
    again.note_end("b")
    assert (again.key, again.step("a"), again.ended("a")) == (told.key, 7, False)
    assert Told(tmp_path / "told.jsonl").ended("b")


def test_without_trackers_nothing_is_written(study_dir: Path) -> None:
    tracking = track(study_dir)
    tracking.start(some_trials(study_dir))
    tracking.close([], study_dir)
    assert not (study_dir / "tracking").exists()


def test_offline_wandb_runs_hold_rows_settings_stop_reasons_and_the_report(study_dir: Path) -> None:
    pytest.importorskip("wandb")
    trials, said = some_trials(study_dir), []
    tracking = track(study_dir, said, wandb="offline", project="mine")
    tracking.start(trials)
    tracking.close(trials, study_dir)
    assert said == []
    files = {
        path.stem.rpartition("-")[2]: path for path in study_dir.glob("tracking/wandb/wandb/offline-run-*/*.wandb")
    }
    assert set(files) == {"study", *(view.trial_id for view, _ in trials)}
    assert ("crossover-cpu-report", "report") in artifacts(files["study"])
    for view, stratum in trials:
        record = RecordResults(study_dir).record(view.trial_id)
        end, facts, path = record.end(), record.facts(), files[view.trial_id]
        assert end is not None
        assert facts is not None
        rows = record.evaluations()
        told = history(path)
        assert [(row["_step"], row["val_loss"], row["tokens_seen"]) for row in told] == [
            (row.step, row.val_loss, row.tokens_seen) for row in rows
        ]
        assert all("raw_val_loss" not in row for row in told), "what is missing stays missing"
        assert summary(path)["stop_reason"] == end.stop_reason
        assert summary(path)["test_bits_per_byte"] == end.test_bits_per_byte
        assert config(path)["optimizer"] == facts.config["optimizer"]
        assert config(path)["stratum"] == stratum


def test_a_wandb_run_that_goes_on_keeps_its_id_and_repeats_no_step(study_dir: Path) -> None:
    pytest.importorskip("wandb")
    trials = some_trials(study_dir)[:1]
    record = RecordResults(study_dir).record(trials[0][0].trial_id)
    end = record.paths.end.read_bytes()
    record.paths.end.unlink()
    for _ in range(2):
        tracking = track(study_dir, wandb="offline")
        tracking.start(trials)
        tracking.close(trials, None)
        record.paths.end.write_bytes(end)
    files = sorted(study_dir.glob("tracking/wandb/wandb/offline-run-*/*.wandb"))
    assert len({path.stem for path in files}) == 1
    steps = [row["_step"] for path in files for row in history(path)]
    assert steps == [row.step for row in record.evaluations()]
    assert "stop_reason" in {key for path in files for key in summary(path)}


def test_tensorboard_shows_curves_and_why_a_trial_ended(study_dir: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trials = some_trials(study_dir)
    tracking = track(study_dir, tensorboard=True)
    tracking.start(trials)
    tracking.close(trials, None)
    for view, _ in trials:
        (folder,) = (study_dir / "tracking" / "tensorboard").glob(f"*{view.trial_id}")
        events = accumulator.EventAccumulator(str(folder)).Reload()
        rows = RecordResults(study_dir).record(view.trial_id).evaluations()
        points = [(point.step, pytest.approx(point.value)) for point in events.Scalars("val_bits_per_byte")]
        assert points == [(row.tokens_seen, row.val_bits_per_byte) for row in rows]
        assert "stop/text_summary" in events.Tags()["tensors"]
        assert "_hparams_/session_end_info" in events.summary_metadata


def test_online_without_a_key_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CrossoverError, match=r"online needs a key for api\.wandb\.ai.*WANDB_API_KEY.*offline"):
        check_tracking(TrackingConfig(wandb="online"))
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "0" * 40 + "\n")
    check_tracking(TrackingConfig(wandb="online"))
    check_tracking(TrackingConfig(wandb="offline"))


def test_a_project_without_wandb_is_an_error(tiny_study: Any) -> None:
    with pytest.raises(StudyError, match=r"project is for Weights & Biases, and tracking\.wandb is disabled"):
        tiny_study(tracking={"project": "mine"})
