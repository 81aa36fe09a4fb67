"""Workers that a dead driver left behind stop writing once a later attempt has begun, and are waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.tune

from crossover.platform.execution.decisions import DecisionLog, is_superseded
from crossover.platform.execution.fence import SupersededError, fence_of, outlast_orphans
from crossover.platform.execution.trial import TuneRun
from crossover.trainers.errors import RecordError
from crossover.trainers.loop import train
from crossover.trainers.record import RecordPaths, TrialRecord
from crossover.trainers.record_start import lock_record

pytestmark = pytest.mark.integration

MakeStudy = Callable[..., Any]
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}


def rows(trial_dir: Path) -> list[dict[str, Any]]:
    return [row.model_dump(exclude=TIMES) for row in TrialRecord(trial_dir).evaluations()]


@pytest.fixture
def leg(tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], Any]:
    """Runs the trial of a study for one attempt of its driver, whose control actor asks nobody to stop."""
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray.tune, "report", lambda row: None)
    study = tiny_study(
        fixed__schedule__epochs=60, fixed__checkpoint__interval_seconds=0.02, fixed__checkpoint__min_interval_seconds=0
    )
    stratum = study.strata()[0]
    config = study.trial_config(stratum, {"optimizer.learning_rate": 1e-3})
    control = SimpleNamespace(poll=SimpleNamespace(remote=lambda progress: None))

    def run(study_dir: Path, attempt: int) -> Any:
        trial_dir = study_dir / "trials" / "one"
        outlast_orphans(trial_dir, attempt, seconds=60)
        return train(config, TuneRun(trial_dir, None, {}, control, fence_of(study_dir, attempt)))

    return run


def test_orphan_leaves_once_a_later_attempt_has_begun_and_the_trial_ends_as_if_there_had_been_none(
    leg: Callable[[Path, int], Any], tmp_path: Path
) -> None:
    DecisionLog(tmp_path / "undisturbed").close()
    assert leg(tmp_path / "undisturbed", 1).status == "ended"

    study_dir, ended = tmp_path / "study", []
    trial_dir = study_dir / "trials" / "one"
    assert DecisionLog(study_dir).attempt == 1

    def orphan() -> None:
        try:
            leg(study_dir, 1)
        except SupersededError as error:
            ended.append(error)

    thread = threading.Thread(target=orphan)
    thread.start()
    while len(RecordPaths(trial_dir).commit_numbers()) < 2:
        assert thread.is_alive()
        time.sleep(0.01)
    assert DecisionLog(study_dir).attempt == 2  # as a new driver does, while the worker of the dead one trains on
    assert leg(study_dir, 2).status == "ended"
    thread.join()
    assert "attempt 1" in str(ended[0])
    assert rows(trial_dir) == rows(tmp_path / "undisturbed" / "trials" / "one")


def test_no_attempt_is_over_before_the_next_begins(tmp_path: Path) -> None:
    first = DecisionLog(tmp_path)
    assert not is_superseded(tmp_path, first.attempt)
    fence_of(tmp_path, first.attempt)()
    second = DecisionLog(tmp_path)
    assert (is_superseded(tmp_path, first.attempt), is_superseded(tmp_path, second.attempt)) == (True, False)
    with pytest.raises(SupersededError, match=r"attempt 1 of .* is over"):
        fence_of(tmp_path, first.attempt)()


def test_a_later_attempt_waits_until_a_record_is_let_go_and_not_for_ever(tmp_path: Path) -> None:
    held = lock_record(RecordPaths(tmp_path))
    threading.Timer(0.3, partial(os.close, held)).start()
    begun = time.monotonic()
    outlast_orphans(tmp_path, attempt=2)
    assert time.monotonic() - begun > 0.2
    held = lock_record(RecordPaths(tmp_path))
    outlast_orphans(tmp_path, attempt=1)  # whoever writes it now is no orphan: the leg itself says so
    with pytest.raises(RecordError, match="is being written by another process"):
        outlast_orphans(tmp_path, attempt=2, seconds=0.2)
    os.close(held)
