"""`crossover run` as a user meets it: killed, interrupted, started twice. Each run is a process of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossover.platform.execution.decisions import LegStarted, Suggested, attempts, read_decisions
from crossover.trainers.record import TrialRecord

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray]

TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four trials of several seconds in all, on a corpus of made-up words."""
    from crossover.trainers.data import prepare_corpus

    folder = tmp_path_factory.mktemp("study")
    (folder / "text").mkdir()
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(200)]
    for number in range(60):
        (folder / "text" / f"{number}.txt").write_text(" ".join(draw.choices(words, k=350)))
    prepare_corpus([folder / "text"], folder / "corpus")
    document = {
        "name": "words",
        "data": {"corpus": str(folder / "corpus"), "unique_tokens": 2048, "sequence_length": 32},
        "fixed": {
            "model.num_layers": 1,
            "model.width": 32,
            "schedule.epochs": 40,
            "schedule.warmup_steps": 2,
            "evaluation.ratio": 1.5,
            "evaluation.validation_windows": 16,
            "evaluation.test_windows": 16,
            "execution.precision": "float32",
            "checkpoint.poll_seconds": 0.05,
            "checkpoint.interval_seconds": 0.5,
        },
        "axes": {
            "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
            "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        },
        "search": {"sampler": "random", "trials": 2},
        "resources": {"cpus_per_worker": 1},
    }
    (folder / "words.yaml").write_text(yaml.safe_dump(document))
    return folder / "words.yaml"


class Runs:
    """Starts `crossover run` and ends what it started."""

    def __init__(self, study_file: Path) -> None:
        self._study_file = study_file
        self._started: list[subprocess.Popen[str]] = []

    def start(self, storage: Path, *overrides: str) -> subprocess.Popen[str]:
        """A process group of its own, as a shell gives it."""
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        crossover = Path(sys.executable).with_name("crossover")
        command = [str(crossover), "run", str(self._study_file), "--storage", str(storage)]
        command += [part for override in overrides for part in ("--set", override)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, storage: Path, *overrides: str) -> tuple[int, str]:
        """To its end."""
        process = self.start(storage, *overrides)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, output

    def end(self) -> None:
        """Ends what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def runs(study_file: Path) -> Iterator[Runs]:
    started = Runs(study_file)
    yield started
    started.end()


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


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.05)


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
        wait_until(lambda ended=ended: trains(study_dir) and has_ended(study_dir, ended))  # type: ignore[misc]
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
    wait_until(lambda: trains(study_dir))
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
    wait_until(lambda: trains(tmp_path / "words"))
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
    wait_until(lambda: trains(tmp_path / "words"))
    code, output = runs.run(tmp_path)
    assert code == 2
    assert f"process {first.pid}" in output
    assert "Traceback" not in output
    assert len(attempts(tmp_path / "words")) == 1


def test_trackers_hear_of_every_trial_of_a_study_that_was_killed(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    study_dir, told = tmp_path / "words", ("tracking.wandb=offline", "tracking.tensorboard=true")
    process = runs.start(tmp_path, *told)
    wait_until(lambda: has_ended(study_dir, 1))
    process.kill()
    process.wait()
    code, output = runs.run(tmp_path, *told)
    assert code == 0, output
    assert "tracking:" not in output
    names = {path.stem.rpartition("-")[2] for path in study_dir.glob("tracking/wandb/wandb/offline-run-*/*.wandb")}
    assert names == {"study", *rows(study_dir)}
    assert len(list(study_dir.glob("tracking/tensorboard/*/events*"))) >= len(rows(study_dir))
