"""Cohort halving on a real Ray, with the real training loop: legs end at rungs, and promotions go on from there."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from crossover.platform.execution.decisions import LegEnded, LegStarted, RungDecided, Suggested, read_decisions
from crossover.platform.execution.launch import DONE, run_study
from crossover.trainers.config import TrialConfig
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

MakeStudy = Callable[..., Any]
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}


def study_of(tiny_study: MakeStudy, **search: Any) -> Any:
    return tiny_study(
        axes__objective__name={"choice": ["autoregressive"], "role": "scientific"},
        fixed__schedule__epochs=9,
        stopping={"rule": "none"},
        search={"sampler": "random", "trials": 4, **search},
    )


def quietly(study: Any, storage: Path, **arguments: Any) -> str:
    output = io.StringIO()
    code = run_study(study, storage, console=Console(file=output, width=200), **arguments)
    assert code == DONE, output.getvalue()
    return output.getvalue()


def records(study_dir: Path) -> dict[str, TrialRecord]:
    made = [line.trial_id for line in read_decisions(study_dir) if isinstance(line, Suggested)]
    return {trial_id: TrialRecord(study_dir / "trials" / trial_id) for trial_id in made}


def rows(study_dir: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        trial_id: [row.model_dump(exclude=TIMES) for row in record.evaluations()]
        for trial_id, record in records(study_dir).items()
    }


def ends(study_dir: Path) -> dict[str, Any]:
    return {
        trial_id: None if (end := record.end()) is None else end.model_dump(exclude=TIMES)
        for trial_id, record in records(study_dir).items()
    }


@pytest.mark.slow
def test_promoted_trials_go_on_from_their_checkpoints_and_equal_uninterrupted_ones(
    tiny_study: MakeStudy, tmp_path: Path
) -> None:
    rungs = {"first_epoch": 2, "eta": 2}
    quietly(study_of(tiny_study, scheduler="cohort_halving", rungs=rungs), tmp_path / "halved")
    quietly(study_of(tiny_study, scheduler="none"), tmp_path / "whole")
    halved, whole = tmp_path / "halved/tiny", tmp_path / "whole/tiny"
    assert set(records(halved)) == set(records(whole))

    decisions = read_decisions(halved)
    legs = Counter(line.trial_id for line in decisions if isinstance(line, LegStarted))
    assert sorted(legs.values()) == [1, 1, 2, 3]
    assert Counter(line.status for line in decisions if isinstance(line, LegEnded)) == {"paused": 6, "ended": 1}
    taken = [one.action for line in decisions if isinstance(line, RungDecided) for one in line.decisions]
    assert Counter(taken) == {"promote": 3, "pause": 3}

    ended = ends(halved)
    assert Counter(end["stop_reason"] for end in ended.values()) == {"pruned": 3, "completed": 1}
    assert all("rung" in end["stop_evidence"] for end in ended.values() if end["stop_reason"] == "pruned")
    reference, winner = rows(whole), next(i for i, end in ended.items() if end["stop_reason"] == "completed")
    assert ended[winner] == ends(whole)[winner]
    for trial_id, found in rows(halved).items():
        assert found == reference[trial_id][: len(found)]
    at_epoch_2 = {i: min(row["val_bits_per_byte"] for row in r if row["epoch"] < 2.5) for i, r in reference.items()}
    assert {i for i, number in legs.items() if number > 1} == set(sorted(at_epoch_2, key=at_epoch_2.__getitem__)[:2])


@pytest.mark.slow
def test_killed_workers_and_fewer_slots_change_nothing_in_the_final_table(
    tiny_study: MakeStudy, tmp_path: Path
) -> None:
    killed = tmp_path / "kills"
    killed.mkdir()

    class Killed:
        def __init__(self, run: Run) -> None:
            self.run = run

        def __getattr__(self, name: str) -> Any:
            return getattr(self.run, name)

        def evaluated(self, evaluation: Any) -> None:
            self.run.evaluated(evaluation)
            marker = killed / self.run.directory.name
            if evaluation.epoch > 1.5 and not marker.exists() and len(list(killed.iterdir())) < 2:
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    study = study_of(tiny_study, scheduler="cohort_halving", rungs={"first_epoch": 2, "eta": 2})
    quietly(study, tmp_path / "calm")
    one_slot = study.model_copy(update={"resources": study.resources.model_copy(update={"cpus_per_worker": 2})})
    quietly(one_slot, tmp_path / "stormy", train=lambda config, run: train_with(config, Killed(run)))
    calm, stormy = tmp_path / "calm/tiny", tmp_path / "stormy/tiny"
    assert any(killed.iterdir())
    assert ends(stormy) == ends(calm)
    assert rows(stormy) == rows(calm)


@pytest.mark.slow
def test_asynchronous_halving_decides_when_a_trial_arrives_and_ends_every_one(
    tiny_study: MakeStudy, tmp_path: Path
) -> None:
    search = {"scheduler": "cohort_halving", "asynchronous": True, "rungs": {"first_epoch": 2, "eta": 2}}
    quietly(study_of(tiny_study, **search), tmp_path)
    study_dir = tmp_path / "tiny"
    reasons = Counter(end["stop_reason"] for end in ends(study_dir).values())
    assert set(reasons) <= {"completed", "pruned"} and reasons["completed"] >= 1, reasons
    arrived: set[str] = set()
    arrived_before: list[int] = []
    taken: list[str] = []
    for line in read_decisions(study_dir):
        if isinstance(line, RungDecided):
            assert {one.trial_id for one in line.decisions} <= arrived
            arrived_before.append(len(arrived))
            taken += [one.action for one in line.decisions]
        elif isinstance(line, LegEnded):
            arrived.add(line.trial_id)
    assert arrived_before[0] < 4, "the first to come did not wait for the last"
    assert "promote" in taken


def train_with(config: TrialConfig, run: Run) -> LegEnd:
    """Threads are the same in both studies."""
    execution = config.execution.model_copy(update={"threads": 1})
    return train(config.model_copy(update={"execution": execution}), run)
