"""Cohort halving that is killed, filled up and started twice: the final table is that of the undisturbed study.

Each run is the command itself in a process of its own, with its own Ray. The final table is compared in every column
but times, throughput and memory.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_studies import NOT_COMPARED, PATIENCE_SECONDS, TWO_STRATA, Runs, kill, wait_until, write_study

from crossover.platform.analysis import load_study
from crossover.platform.execution.decisions import LegEnded, LegStarted, RungDecided, attempts, read_decisions

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray, pytest.mark.timeout(900)]

# and the commit of a working tree, which may move on while the tests run
Tables = tuple[dict[str, Any], dict[tuple[str, int], Any]]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strata of two cohorts of three, whose second cohort is drawn by what the first has taught."""
    return write_study(
        tmp_path_factory.mktemp("study"),
        fixed={
            "schedule.epochs": 18,
            "checkpoint.poll_seconds": 0.05,
            "checkpoint.interval_seconds": 0.3,
            "checkpoint.min_interval_seconds": 0.1,
        },
        axes=TWO_STRATA,
        search={
            "sampler": "tpe",
            "trials": 6,
            "cohort": 3,
            "scheduler": "cohort_halving",
            "rungs": {"first_epoch": 5, "eta": 2},
        },
        resources={"cpus_per_worker": 1},
    )


def process_of_a_trial(runs: Runs, study_dir: Path) -> int | None:
    """A process that has the record of a trial open for writing, which locks its folder."""
    for pid in runs.processes():
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                if link.readlink().parent == study_dir / "trials":
                    return pid
            except OSError:
                continue
    return None


@pytest.fixture
def runs(study_file: Path) -> Iterator[Runs]:
    started = Runs(study_file)
    yield started
    started.kill_everything()


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    started, storage = Runs(study_file), tmp_path_factory.mktemp("undisturbed")
    code, output = started.run(storage)
    assert code == 0, output
    decided = [one.action for line in decisions(storage / "words", RungDecided) for one in line.decisions]
    assert Counter(decided) == {"promote": 12, "pause": 8}
    return storage / "words"


def decisions(study_dir: Path, kind: type[Any]) -> list[Any]:
    return [line for line in read_decisions(study_dir) if isinstance(line, kind)]


def tables(study_dir: Path) -> Tables:
    """The final table and its evaluations by trial; the order in which strata are drawn is that of their arrival."""
    study = load_study(study_dir)
    assert set(study.trials["status"].to_pylist()) == {"done"}
    trials, evaluations = (
        table.drop_columns([name for name in table.column_names if name in NOT_COMPARED]).to_pylist()
        for table in (study.trials, study.evaluations)
    )
    by_trial = {row["trial_id"]: row for row in trials}
    assert len(by_trial) == len(trials) == 12
    return by_trial, {(row["trial_id"], row["step"]): row for row in evaluations}


def rungs(study_dir: Path) -> set[tuple[Any, ...]]:
    """What was decided, whenever."""
    return {
        (line.stratum_label, line.cohort, one.trial_id, one.rung, one.action, one.reason)
        for line in decisions(study_dir, RungDecided)
        for one in line.decisions
    }


def assert_same(study_dir: Path, undisturbed: Path) -> None:
    """Same table, same decisions; no trial is lost, none that had ended is run again."""
    assert tables(study_dir) == tables(undisturbed)
    assert rungs(study_dir) == rungs(undisturbed)
    over: set[str] = set()
    for lines in attempts(study_dir):
        for line in lines:
            assert not (isinstance(line, LegStarted) and line.trial_id in over), "run twice"
            if isinstance(line, LegEnded) and line.status == "ended":
                over.add(line.trial_id)


def commits(study_dir: Path) -> int:
    """Grows while trials train."""
    numbers = (int(path.name) for path in study_dir.glob("trials/*/commits/[0-9]*"))
    return sum(numbers) + len(list(study_dir.glob("trials/*/end.json")))


def test_killed_driver_goes_on_to_the_same_table(runs: Runs, tmp_path: Path, undisturbed: Path) -> None:
    study_dir = tmp_path / "words"
    first = runs.start(tmp_path)
    wait_until(lambda: decisions(study_dir, RungDecided) if study_dir.exists() else False, first)
    first.kill()
    first.wait()
    code, output = runs.run(tmp_path)
    assert code == 0, output
    assert_same(study_dir, undisturbed)


def test_killed_trial_goes_on_to_the_same_table(runs: Runs, tmp_path: Path, undisturbed: Path) -> None:
    study_dir = tmp_path / "words"
    driver = runs.start(tmp_path)
    wait_until(lambda: commits(study_dir) > 5 and process_of_a_trial(runs, study_dir), driver)
    victim = process_of_a_trial(runs, study_dir)
    assert victim is not None and victim != driver.pid
    kill(victim)
    output, _ = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 0, output
    assert "worker died" in output
    assert "failed" in [line.status for line in decisions(study_dir, LegEnded)]
    assert_same(study_dir, undisturbed)


def test_study_all_of_whose_processes_are_killed_at_once_goes_on_to_the_same_table(
    runs: Runs, tmp_path: Path, undisturbed: Path
) -> None:
    study_dir = tmp_path / "words"
    first = runs.start(tmp_path)
    wait_until(lambda: commits(study_dir) > 8 and process_of_a_trial(runs, study_dir), first)
    runs.kill_everything()
    code, output = runs.run(tmp_path)
    assert code == 0, output
    assert_same(study_dir, undisturbed)


@pytest.mark.parametrize("seed", [0])
def test_three_kills_in_a_row_at_random_times_change_nothing(
    runs: Runs, tmp_path: Path, undisturbed: Path, seed: int
) -> None:
    study_dir, draw = tmp_path / "words", random.Random(seed)
    for _ in range(3):
        before = commits(study_dir)
        process = runs.start(tmp_path)
        wait_until(lambda before=before: commits(study_dir) > before, process)  # type: ignore[misc]
        time.sleep(draw.uniform(0, 2))
        if process.poll() is None:
            draw.choice((runs.kill_everything, process.kill))()
        process.wait()
    code, output = runs.run(tmp_path)
    assert code == 0, output
    assert_same(study_dir, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path, undisturbed: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file system with room for half of the study, and what gives it more."""
    size = sum(path.stat().st_blocks * 512 for path in undisturbed.rglob("*") if path.is_file())
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small tmpfs: {mounted.stderr.strip()}")
    yield place, lambda: _mount_again(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount_again(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)


def test_full_disk_stops_the_study_and_with_more_room_it_ends_with_the_same_table(
    runs: Runs, small_disk: tuple[Path, Callable[[], None]], undisturbed: Path
) -> None:
    storage, make_room = small_disk
    code, output = runs.run(storage)
    assert code in (2, 130), output
    assert "No space left" in output
    assert "Traceback" not in output
    assert "make room" in output
    study_dir = storage / "words"
    assert any(study_dir.glob("trials/*/commits/[0-9]*")), "it filled up before anything was trained"
    make_room()
    code, output = runs.run(storage)
    assert code == 0, output
    assert_same(study_dir, undisturbed)


def test_second_driver_is_refused_by_the_name_of_the_first_which_goes_on_to_the_same_table(
    runs: Runs, tmp_path: Path, undisturbed: Path
) -> None:
    first = runs.start(tmp_path)
    wait_until(lambda: commits(tmp_path / "words") > 0, first)
    code, output = runs.run(tmp_path)
    assert (code, f"process {first.pid}" in output, "Traceback" in output) == (2, True, False)
    output, _ = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0, output
    assert len(attempts(tmp_path / "words")) == 1
    assert_same(tmp_path / "words", undisturbed)
