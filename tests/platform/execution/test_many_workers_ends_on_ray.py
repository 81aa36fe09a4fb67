"""How trials of two workers end without a fault: by the detector, at a rung, and by Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from crossover.platform.execution.decisions import LegEnded, LegStarted, Suggested, read_decisions
from crossover.platform.execution.launch import DONE, INTERRUPTED, run_study
from crossover.trainers.record import TrialRecord

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

MakeStudy = Callable[..., Any]
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
ONE_OBJECTIVE = {"choice": ["autoregressive"], "role": "scientific"}
PATIENCE_SECONDS = 240
FREE_SECONDS = 30


def quietly(study: Any, storage: Path) -> None:
    output = io.StringIO()
    code = run_study(study, storage, console=Console(file=output, width=200))
    assert code == DONE, output.getvalue()


def records(study_dir: Path) -> dict[str, TrialRecord]:
    made = [line.trial_id for line in read_decisions(study_dir) if isinstance(line, Suggested)]
    return {trial_id: TrialRecord(study_dir / "trials" / trial_id) for trial_id in made}


def rows(study_dir: Path, *without: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of every trial, without what the clock and the machine say."""
    found = {trial_id: record.evaluations() for trial_id, record in records(study_dir).items()}
    return {trial_id: [row.model_dump(exclude=TIMES | set(without)) for row in r] for trial_id, r in found.items()}


def legs(study_dir: Path) -> list[str]:
    return [line.status for line in read_decisions(study_dir) if isinstance(line, LegEnded)]


@pytest.mark.usefixtures("ray_session")
def test_detector_stops_a_trial_of_two_workers_that_learns_its_text_by_heart(
    tiny_study: MakeStudy, tmp_path: Path
) -> None:
    study = tiny_study(
        axes={"objective.name": ONE_OBJECTIVE},
        search={"scheduler": "none"},
        data__unique_tokens=64,
        data__sequence_length=16,
        fixed__optimizer__learning_rate=1e-2,
        fixed__schedule__batch_size=4,
        fixed__schedule__epochs=400,
        fixed__evaluation__ratio=1.25,
        stopping={"rule": "overfit", "patience": 2},
        resources={"workers": 2},
    )
    quietly(study, tmp_path)
    (record,) = records(tmp_path / "tiny").values()
    end = record.end()
    assert end is not None
    assert end.stop_reason == "overfit"
    assert "nats per token" in end.stop_evidence
    assert end.tokens_seen < 400 * 64
    assert legs(tmp_path / "tiny") == ["ended"]
    assert {row.world_size for row in record.evaluations()} == {2}


@pytest.mark.usefixtures("ray_session")
def test_promoted_trials_of_two_workers_go_on_from_their_checkpoints(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(
        axes__objective__name=ONE_OBJECTIVE,
        fixed__schedule__epochs=4,
        stopping={"rule": "none"},
        search={
            "sampler": "random",
            "trials": 2,
            "scheduler": "cohort_halving",
            "rungs": {"first_epoch": 2, "eta": 2},
        },
    )
    two_each = study.model_copy(update={"resources": type(study.resources).model_validate({"workers": 2})})
    quietly(study, tmp_path / "one")
    quietly(two_each, tmp_path / "two")
    one, two = tmp_path / "one/tiny", tmp_path / "two/tiny"
    started = Counter(line.trial_id for line in read_decisions(two) if isinstance(line, LegStarted))
    assert sorted(started.values()) == [1, 2]
    assert sorted(legs(two)) == ["ended", "paused", "paused"]
    ends = [end.stop_reason for record in records(two).values() if (end := record.end()) is not None]
    assert sorted(ends) == ["completed", "pruned"]
    expected, found = rows(one, "world_size"), rows(two, "world_size")
    assert expected.keys() == found.keys()
    for trial_id, trial in expected.items():
        assert [row["step"] for row in found[trial_id]] == [row["step"] for row in trial]
        losses = [row["val_loss"] for row in found[trial_id]]
        assert losses == pytest.approx([row["val_loss"] for row in trial], rel=1e-4)


def start(file: Path, storage: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [str(Path(sys.executable).with_name("crossover")), "run", str(file), "--storage", str(storage)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def test_ctrl_c_leaves_a_study_of_two_workers_resumable_and_nothing_running(
    tiny_study_file: Any, tmp_path: Path
) -> None:
    file = tiny_study_file(
        tmp_path / "tiny.yaml",
        axes={"objective.name": ONE_OBJECTIVE},
        search={"scheduler": "none"},
        fixed__schedule__epochs=200,
        fixed__evaluation__ratio=1.1,
        fixed__checkpoint__min_interval_seconds=0.2,
        stopping={"rule": "none"},
        resources={"workers": 2},
    )
    study_dir = tmp_path / "runs/tiny"
    run = start(file, tmp_path / "runs")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(study_dir.glob("trials/*/commits/[0-9]*")):
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = psutil.Process(run.pid).children(recursive=True)
    assert any("RayTrainWorker" in " ".join(process.cmdline()) for process in started if process.is_running())
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == INTERRUPTED, output
    assert "the same command goes on with it" in output
    _, alive = psutil.wait_procs(started, timeout=FREE_SECONDS)
    assert not alive
    assert legs(study_dir) == ["interrupted"]
    steps = [row["step"] for trial in rows(study_dir).values() for row in trial]

    again = start(file, tmp_path / "runs")
    output, _ = again.communicate(timeout=PATIENCE_SECONDS)
    assert again.returncode == DONE, output
    assert legs(study_dir) == ["interrupted", "ended"]
    (trial,) = rows(study_dir).values()
    assert [row["step"] for row in trial][: len(steps)] == steps
    assert [row["epoch"] for row in trial][-1] == 200
