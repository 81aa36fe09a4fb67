"""`crossover run` as a user meets it: killed, interrupted, started twice. Each run is a process of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_studies import PATIENCE_SECONDS, TIMES, TWO_STRATA, Runs, wait_until, write_study

from crossover.platform.execution.decisions import LegStarted, Suggested, attempts, read_decisions
from crossover.trainers.record import TrialRecord

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four trials of several seconds in all."""
    return write_study(
        tmp_path_factory.mktemp("study"),
        fixed={"schedule.epochs": 40, "checkpoint.poll_seconds": 0.05, "checkpoint.interval_seconds": 0.5},
        axes=TWO_STRATA,
        search={"sampler": "random", "trials": 2},
        resources={"cpus_per_worker": 1},
    )


@pytest.fixture
def runs(study_file: Path) -> Iterator[Runs]:
    started = Runs(study_file)
    yield started
    started.kill_everything()


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    started, storage = Runs(study_file), tmp_path_factory.mktemp("undisturbed")
    code, output = started.run(storage)
    assert code == 0, output
    return rows(storage / "words")


def rows(study_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every trial, without what the clock and the machine say."""
    made = [line.trial_id for line in read_decisions(study_dir) if isinstance(line, Suggested)]
    assert len(made) == len(set(made))
    records = {trial_id: TrialRecord(study_dir / "trials" / trial_id) for trial_id in made}
    assert all(record.end() is not None for record in records.values())
    return {i: [row.model_dump(exclude=TIMES) for row in r.evaluations()] for i, r in records.items()}


def trains(study_dir: Path) -> bool:
    return any(study_dir.glob("trials/*/commits/[0-9]*"))


def has_ended(study_dir: Path, number: int) -> bool:
    return len(list(study_dir.glob("trials/*/end.json"))) >= number


def test_killed_study_goes_on_without_losing_or_repeating_a_trial(
    runs: Runs, tmp_path: Path, undisturbed: dict[str, list[dict[str, Any]]]
) -> None:
    study_dir = tmp_path / "words"
    for ended in (0, 1):
        process = runs.start(tmp_path)
        wait_until(lambda ended=ended: trains(study_dir) and has_ended(study_dir, ended), process)  # type: ignore[misc]
        process.kill()
        process.wait()
    finished_before = {path.parent.name for path in study_dir.glob("trials/*/end.json")}
    code, output = runs.run(tmp_path)
    assert code == 0, output
    assert rows(study_dir) == undisturbed
    last = attempts(study_dir)[-1]
    assert finished_before.isdisjoint(line.trial_id for line in last if isinstance(line, LegStarted))


def test_one_ctrl_c_interrupts_and_the_same_command_goes_on(
    runs: Runs, tmp_path: Path, undisturbed: dict[str, list[dict[str, Any]]]
) -> None:
    study_dir = tmp_path / "words"
    process = runs.start(tmp_path)
    wait_until(lambda: trains(study_dir), process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    code, output = runs.run(tmp_path)
    assert code == 0, output
    assert rows(study_dir) == undisturbed


def test_second_ctrl_c_ends_at_once(runs: Runs, tmp_path: Path) -> None:
    process = runs.start(tmp_path, "schedule.epochs=1_000_000", "checkpoint.poll_seconds=1000", "evaluation.ratio=1000")
    wait_until(lambda: trains(tmp_path / "words"), process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None, "trials that do not poll end only at the second one"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "stopped at once" in output
    assert "Traceback" not in output


def test_second_driver_is_refused_and_names_the_first(runs: Runs, tmp_path: Path) -> None:
    first = runs.start(tmp_path)
    wait_until(lambda: trains(tmp_path / "words"), first)
    code, output = runs.run(tmp_path)
    assert code == 2
    assert f"process {first.pid}" in output
    assert "Traceback" not in output
    assert len(attempts(tmp_path / "words")) == 1


def test_trackers_hear_of_every_trial_of_a_study_that_was_killed(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb, of the extra wandb")
    study_dir, told = tmp_path / "words", ("tracking.wandb=offline", "tracking.tensorboard=true")
    process = runs.start(tmp_path, *told)
    wait_until(lambda: has_ended(study_dir, 1), process)
    process.kill()
    process.wait()
    code, output = runs.run(tmp_path, *told)
    assert code == 0, output
    assert "tracking:" not in output
    names = {path.stem.rpartition("-")[2] for path in study_dir.glob("tracking/wandb/wandb/offline-run-*/*.wandb")}
    assert names == {"study", *rows(study_dir)}
    assert len(list(study_dir.glob("tracking/tensorboard/*/events*"))) >= len(rows(study_dir))
