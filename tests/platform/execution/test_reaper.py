"""Who is killed, and in which order, without a cluster."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crossover.platform.execution import ray_private, reaper
from crossover.platform.execution.leg import TrialContext, placement_group_prefix
from crossover.platform.execution.reaper import Reaper
from crossover.platform.execution.workers import Room

MakeStudy = Callable[..., Any]
GROUP = "ab" * 18


class Control:
    """Answers at once, as `ray.get` gives it here."""

    def __init__(self, done: list[Any]) -> None:
        self.silent_trials: list[str] = []
        self.silent = SimpleNamespace(remote=lambda seconds: self.silent_trials)
        self.claim: str | None = None
        self.take_claim = SimpleNamespace(remote=lambda trial_id: self.claim)
        self.leg_over = SimpleNamespace(remote=lambda *what: done.append(("over", *what)))


class Bench:
    """A reaper, and what it did."""

    def __init__(self, study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[Any] = []
        self.said: list[str] = []
        self.control = Control(self.done)
        self.context = TrialContext(study, Path("study"), "corpus", "control-1", "namespace", 1, Room(2))
        self.reaper = Reaper(self.context, self.control, self.said.append)
        self.table: dict[str, dict[str, Any]] = {}
        monkeypatch.setattr(reaper.ray, "get", lambda value: value)
        monkeypatch.setattr(reaper.ray, "kill", lambda actor: self.done.append(("kill", actor)))
        monkeypatch.setattr(reaper.ray.util, "placement_group_table", lambda: self.table)
        monkeypatch.setattr(
            reaper, "remove_placement_group", lambda group: self.done.append(("remove", group.id.hex()))
        )
        monkeypatch.setattr(reaper, "_LOOK_SECONDS", -1.0)

    def place(self, name: str, state: str = "CREATED", group_id: str = GROUP) -> None:
        self.table[group_id] = {"name": name, "state": state, "placement_group_id": group_id}


@pytest.fixture
def bench(tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tiny_study(resources={"workers": 2, "hang_seconds": 5}), monkeypatch)


def tune_trial(trial_id: str = "a", actor: str | None = "actor of a") -> Any:
    state = SimpleNamespace(ray_actor=actor)
    config = {"trial_id": trial_id, "leg": 2}
    return SimpleNamespace(trial_id=f"tune-{trial_id}", status="RUNNING", config=config, temporary_state=state)


def test_actor_of_a_failed_leg_goes_first_and_then_what_it_had_placed(bench: Bench) -> None:
    trial = tune_trial()
    bench.place("control-1/a/2/0")
    bench.reaper.on_step_end(1, [trial])
    trial.temporary_state.ray_actor = None  # as Tune tells of the failure
    bench.reaper.on_trial_error(2, [trial], trial)
    assert bench.done == [("kill", "actor of a"), ("remove", GROUP), ("over", "a")]


def test_claim_of_a_failed_leg_is_taken_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.control.claim = "train-1"
    monkeypatch.setattr(ray_private, "take_back_claim", lambda claim: bench.done.append(("back", claim)))
    bench.reaper.on_trial_error(2, [], tune_trial())
    assert ("back", "train-1") in bench.done


def test_only_what_the_leg_had_placed_itself_is_removed(bench: Bench) -> None:
    trial = tune_trial()
    assert placement_group_prefix(bench.context, trial.config) == "control-1/a/2/"
    bench.place("control-1/a/21/0", group_id="01" * 18)
    bench.place("control-1/ab/2/0", group_id="02" * 18)
    bench.place("control-2/a/2/0", group_id="03" * 18)
    bench.place("", group_id="04" * 18)
    bench.place("control-1/a/2/0", "REMOVED", group_id="05" * 18)
    bench.reaper.on_trial_complete(2, [trial], trial)
    assert bench.done == []


def test_actor_of_a_leg_that_returned_stays_to_be_used_again(bench: Bench) -> None:
    trial = tune_trial()
    bench.reaper.on_step_end(1, [trial])
    bench.reaper.on_trial_complete(2, [trial], trial)
    bench.control.silent_trials = ["a"]
    trial.status = "TERMINATED"
    bench.reaper.on_step_end(3, [trial])
    assert bench.done == []


def test_silent_leg_is_killed_once_with_the_reason_said(bench: Bench) -> None:
    trials = [tune_trial("a"), tune_trial("b", "actor of b")]
    bench.control.silent_trials = ["b"]
    bench.reaper.on_step_end(1, trials)
    error = "it said nothing for resources.hang_seconds = 5 and was killed"
    assert bench.done == [("over", "b", error), ("kill", "actor of b")]
    assert bench.said == [f"killing a leg of b: {error}"]


def test_study_of_one_worker_legs_is_not_searched_for_placement_groups(
    tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, trial = Bench(tiny_study(), monkeypatch), tune_trial()
    bench.place("control-1/a/2/0")
    bench.reaper.on_trial_complete(2, [trial], trial)
    assert bench.done == []


def test_nothing_of_a_reaper_goes_into_tunes_folder(bench: Bench) -> None:
    assert pickle.loads(pickle.dumps(bench.reaper)).__dict__ == {}
