"""Trials of several workers on a cluster whose machines come and go: each machine is a raylet of its own here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_studies import PATIENCE_SECONDS, TIMES, Runs, wait_until, write_study

from crossover.platform.execution.decisions import LegEnded, read_decisions
from crossover.trainers.record import TrialRecord

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray, pytest.mark.timeout(900)]

INTERVAL_SECONDS = 2.0
FINISH_SECONDS = 2 * PATIENCE_SECONDS


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one trial of one or two workers, that takes about a minute of training."""
    return write_study(
        tmp_path_factory.mktemp("study"),
        unique_tokens=8192,
        fixed={
            "objective.name": "autoregressive",
            "schedule.epochs": 400,
            "evaluation.ratio": 1.4,
            "checkpoint.poll_seconds": 0.2,
            "checkpoint.interval_seconds": INTERVAL_SECONDS,
            "checkpoint.min_interval_seconds": 0.5,
        },
        search={"scheduler": "none"},
        stopping={"rule": "none"},
        resources={"workers": {"min": 1, "max": 2, "resize_seconds": 3}},
    )


class Machines:
    """A cluster of this test alone: a head without processors, and machines of one processor."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
        )
        self._machines = [self.add() for _ in range(2)]
        self._runs: list[Runs] = []
        self.killed_at = self.told_at = 0.0

    def add(self) -> Any:
        """One more."""
        return self._cluster.add_node(num_cpus=1)

    def kill_one(self) -> None:
        """As when the power fails."""
        self.killed_at = time.time()
        self._cluster.remove_node(self._machines.pop(), allow_graceful=False)

    def drain_one(self, seconds: float) -> None:
        """As a cloud tells that it takes a machine back; after so many seconds it is gone."""
        command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", self._cluster.address]
        command += ["--node-id", self._machines[-1].node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "a test", "--deadline-remaining-seconds", str(int(seconds))]
        self.told_at = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        self.kill_one()

    def start(self, study_file: Path, storage: Path) -> subprocess.Popen[str]:
        """`crossover run` on this cluster."""
        self._runs.append(Runs(study_file, RAY_ADDRESS=self._cluster.address))
        return self._runs[-1].start(storage)

    def end(self) -> None:
        """Ends what was started here."""
        for runs in self._runs:
            runs.kill_everything()
        self._cluster.shutdown()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="cx-ray", ignore_cleanup_errors=True) as folder:
        started = Machines(folder)
        yield started
        started.end()


def records(study_dir: Path) -> list[TrialRecord]:
    return [TrialRecord(path) for path in sorted(study_dir.glob("trials/*"))]


def rows(study_dir: Path) -> list[dict[str, Any]]:
    return [row.model_dump(exclude=TIMES) for record in records(study_dir) for row in record.evaluations()]


def world_sizes(study_dir: Path) -> list[int]:
    sizes = [row["world_size"] for row in rows(study_dir)]
    return [size for number, size in enumerate(sizes) if number == 0 or sizes[number - 1] != size]


def leg_ends(study_dir: Path) -> list[str]:
    return [line.status for line in read_decisions(study_dir) if isinstance(line, LegEnded)]


def committed_at(study_dir: Path) -> float:
    (record,) = records(study_dir)
    return record.paths.commit(record.paths.commit_numbers()[0]).stat().st_mtime


def finish(run: subprocess.Popen[str]) -> str:
    output, _ = run.communicate(timeout=FINISH_SECONDS)
    assert run.returncode == 0, output
    return output


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """To the tolerance of sums in another order, over a thousand steps."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=2e-3), row["step"]


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One worker, without Ray Train."""
    runs, storage = Runs(study_file), tmp_path_factory.mktemp("undisturbed")
    code, output = runs.run(storage, "resources.workers=1")
    assert code == 0, output
    return rows(storage / "words")


def test_trial_goes_on_with_fewer_workers_when_a_machine_dies_and_grows_with_a_new_one(
    machines: Machines, study_file: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    study_dir = tmp_path / "words"
    run = machines.start(study_file, tmp_path)
    wait_until(lambda: len(rows(study_dir)) >= 3, run)
    machines.kill_one()
    lost_seconds = machines.killed_at - committed_at(study_dir)
    assert lost_seconds <= 2 * INTERVAL_SECONDS, "more than an interval, and the commit that was being written"
    wait_until(lambda: world_sizes(study_dir)[-1] == 1, run)
    machines.add()
    output = finish(run)
    assert world_sizes(study_dir)[:2] == [2, 1], output
    assert world_sizes(study_dir)[-1] == 2, output
    assert leg_ends(study_dir) == ["ended"]
    assert_same(rows(study_dir), undisturbed)


def test_trial_leaves_a_machine_that_is_to_be_taken_away_with_a_checkpoint(
    machines: Machines, study_file: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    study_dir = tmp_path / "words"
    run = machines.start(study_file, tmp_path)
    wait_until(lambda: len(rows(study_dir)) >= 3, run)
    machines.drain_one(seconds=10)
    assert committed_at(study_dir) >= machines.told_at, "it did not leave with a checkpoint"
    finish(run)
    assert leg_ends(study_dir) == ["interrupted", "ended"]
    assert world_sizes(study_dir) == [2, 1]
    assert_same(rows(study_dir), undisturbed)
