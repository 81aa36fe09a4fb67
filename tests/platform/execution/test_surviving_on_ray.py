"""Cohort halving in which trials raise, hang, diverge and find no room: the final table is the undisturbed one's."""

from __future__ import annotations

import errno
import io
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from rich.console import Console

from crossover.platform.analysis import load_study
from crossover.platform.execution.checkpoint_quota import largest_checkpoint, needed_bytes
from crossover.platform.execution.decisions import LegEnded, RungDecided, read_decisions
from crossover.platform.execution.launch import DONE, INTERRUPTED, run_study
from crossover.trainers.config import TrialConfig
from crossover.trainers.durable import writing
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_space import checkpoint_bytes
from crossover.trainers.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

MakeStudy = Callable[..., Any]
# and the commit of a working tree, which may move on while the tests run
NOT_COMPARED = {"git_commit", "wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
TOO_FAST = 1.0


def train_to_nan(config: TrialConfig, run: Run) -> LegEnd:
    """The fastest configuration's weights are no numbers after its first step."""
    if config.optimizer.learning_rate < TOO_FAST:
        return train(config, run)
    with mock.patch("crossover.trainers.step.learning_rate", lambda *_: math.nan):
        return train(config, run)


def study_of(tiny_study: MakeStudy, **changes: Any) -> Any:
    """Four configurations, one of which diverges."""
    return tiny_study(
        axes={
            "objective.name": {"choice": ["autoregressive"], "role": "scientific"},
            "optimizer.learning_rate": {"choice": [1e-3, 3e-3, 1e-2, TOO_FAST], "role": "nuisance"},
        },
        stopping={"rule": "none"},
        search={"sampler": "grid", "scheduler": "cohort_halving", "rungs": {"first_epoch": 2, "eta": 2}},
        **{
            "fixed__schedule__epochs": 9,
            "fixed__checkpoint__min_interval_seconds": 0.0,
            **changes,
        },
    )


def quietly(study: Any, storage: Path, **arguments: Any) -> tuple[int, str]:
    output = io.StringIO()
    code = run_study(study, storage, console=Console(file=output, width=200), **arguments)
    return code, output.getvalue()


def final_table(study_dir: Path) -> tuple[Any, ...]:
    study = load_study(study_dir)
    tables = (study.trials, study.evaluations)
    return tuple(
        repr(table.drop_columns([n for n in table.column_names if n in NOT_COMPARED]).to_pylist()) for table in tables
    )


def legs(study_dir: Path) -> Counter[str]:
    return Counter(line.status for line in read_decisions(study_dir) if isinstance(line, LegEnded))


@pytest.fixture(scope="module")
def calm(tiny_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    storage = tmp_path_factory.mktemp("calm")
    code, output = quietly(study_of(tiny_study), storage, train=train_to_nan)
    assert code == DONE, output
    return storage / "tiny"


class Once:
    """A run in which something happens at the first evaluation after epoch 3, in one trial."""

    def __init__(self, run: Run, marker: Path, happens: Callable[[], None]) -> None:
        self._run, self._marker, self._happens = run, marker, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def evaluated(self, evaluation: Any) -> None:
        self._run.evaluated(evaluation)
        if evaluation.epoch > 3 and not self._marker.exists():
            self._marker.touch()
            self._happens()


def with_once(marker: Path, happens: Callable[[], None]) -> Callable[[TrialConfig, Run], LegEnd]:
    return lambda config, run: train_to_nan(config, Once(run, marker, happens))


def test_trial_whose_loss_is_not_finite_ends_as_diverged_and_takes_no_place(calm: Path) -> None:
    trials = load_study(calm).trials.to_pylist()
    assert Counter(trial["stop_reason"] for trial in trials) == {"diverged": 1, "pruned": 2, "completed": 1}
    diverged = next(trial for trial in trials if trial["stop_reason"] == "diverged")
    assert (diverged["optimizer.learning_rate"], diverged["best_bits_per_byte"]) == (TOO_FAST, None)
    promoted = [
        o.trial_id
        for d in read_decisions(calm)
        if isinstance(d, RungDecided)
        for o in d.decisions
        if o.action == "promote"
    ]
    assert len(promoted) == 3 and diverged["trial_id"] not in promoted


def test_trial_that_raises_once_goes_on_to_the_same_table(tiny_study: MakeStudy, tmp_path: Path, calm: Path) -> None:
    def raises() -> None:
        raise ValueError("a cosmic ray")

    code, output = quietly(study_of(tiny_study), tmp_path, train=with_once(tmp_path / "done", raises))
    assert code == DONE, output
    assert "a cosmic ray" in output
    assert legs(tmp_path / "tiny")["failed"] == 1
    assert final_table(tmp_path / "tiny") == final_table(calm)


def test_trial_that_hangs_is_killed_and_goes_on_to_the_same_table(
    tiny_study: MakeStudy, tmp_path: Path, calm: Path
) -> None:
    study = study_of(tiny_study, resources={"hang_seconds": 10})
    code, output = quietly(study, tmp_path, train=with_once(tmp_path / "done", lambda: time.sleep(1e6)))
    assert code == DONE, output
    assert "said nothing for resources.hang_seconds = 10" in output
    assert final_table(tmp_path / "tiny") == final_table(calm)


def test_full_disk_interrupts_the_study_and_fails_no_trial(tiny_study: MakeStudy, tmp_path: Path, calm: Path) -> None:
    def finds_no_room() -> None:
        with writing(Path("/somewhere")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    train_once = with_once(tmp_path / "done", finds_no_room)
    code, output = quietly(study_of(tiny_study), tmp_path, train=train_once)
    assert code == INTERRUPTED, output
    assert "No space left on device" in output and "make room" in output
    assert set(legs(tmp_path / "tiny")) <= {"interrupted", "paused", "ended"}
    code, output = quietly(study_of(tiny_study), tmp_path, train=train_once)
    assert code == DONE, output
    assert final_table(tmp_path / "tiny") == final_table(calm)


def test_checkpoints_of_real_trials_keep_their_quota_at_every_moment(tiny_study: MakeStudy, tmp_path: Path) -> None:
    changes = {
        "axes__objective__name": {"choice": ["autoregressive"], "role": "scientific"},
        "fixed__schedule__epochs": 4,
        "fixed__checkpoint__min_interval_seconds": 0.0,
        "search": {"sampler": "random", "trials": 12, "cohort": 4, "rungs": {"first_epoch": 1, "eta": 2}},
    }
    study = tiny_study(**changes)
    quota = needed_bytes(study, slots=2)
    assert 12 * largest_checkpoint(study).total_bytes > quota, "if nothing were dropped it would be exceeded"
    study = tiny_study(**changes, checkpoints={"max_bytes": quota})
    seen, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            trials = (tmp_path / "tiny/trials").glob("*")
            seen.append(sum(checkpoint_bytes(TrialRecord(path)) for path in trials))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        code, output = quietly(study, tmp_path)
    finally:
        done.set()
        watching.join()
    assert code == DONE, output
    assert 0.5 * quota < max(seen) <= quota
    assert {trial["status"] for trial in load_study(tmp_path / "tiny").trials.to_pylist()} == {"done"}
