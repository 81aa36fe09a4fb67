"""The bridge between Tune and the planner, without a cluster."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from execution_examples import suggested
from ray.tune.search import Searcher

from crossover.platform.execution.tune_searcher import TuneSearcher
from crossover.platform.search.plan import Finished, Leg, Wait


class Planner:
    """Answers from a list, and remembers what it heard."""

    def __init__(self, answers: list[Leg | Wait | Finished]) -> None:
        self.answers = answers
        self.ended: list[tuple[Any, ...]] = []

    def next_leg(self) -> Leg | Wait | Finished:
        return self.answers.pop(0)

    def leg_ended(self, *what: Any) -> None:
        self.ended.append(what)


class Observer:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def leg_started(self, leg: Leg) -> None:
        self.heard.append(("started", leg.trial_id))

    def row(self, leg: Leg, row: dict[str, Any]) -> None:
        self.heard.append(("row", leg.trial_id, row["val_loss"]))

    def leg_ended(self, leg: Leg, status: str, error: str | None) -> None:
        self.heard.append(("ended", leg.trial_id, status, error))


def searcher(*answers: Leg | Wait | Finished, error: str | None = None) -> tuple[TuneSearcher, Planner, Observer]:
    planner, observer = Planner(list(answers)), Observer()
    return TuneSearcher(planner, observer, lambda trial_id: error), planner, observer  # type: ignore[arg-type]


LEG = Leg(suggested("a", number=3), leg=2, until_tokens=None)


def test_answers_of_the_planner_are_what_tune_expects() -> None:
    tune, _, _ = searcher(Wait(), LEG, Finished())
    assert tune.suggest("t1") is None
    config = tune.suggest("t1")
    assert config is not None
    assert (config["trial_id"], config["leg"], config["number"]) == ("a", 2, 3)
    assert tune.suggest("t2") == Searcher.FINISHED


def test_row_at_the_end_of_a_leg_is_no_evaluation_and_tells_its_status() -> None:
    tune, planner, observer = searcher(LEG)
    tune.suggest("t1")
    tune.on_trial_result("t1", {"val_loss": 1.0})
    tune.on_trial_result("t1", {"val_loss": 1.0, "leg_status": "interrupted"})
    tune.on_trial_complete("t1", {"val_loss": 1.0, "leg_status": "interrupted"})
    assert observer.heard == [("started", "a"), ("row", "a", 1.0), ("ended", "a", "interrupted", None)]
    assert planner.ended == [("a", "interrupted", None)]


@pytest.mark.parametrize("result", [None, {}, {"val_loss": 1.0}])
def test_leg_that_vanished_without_a_word_has_failed(result: dict[str, Any] | None) -> None:
    tune, planner, _ = searcher(LEG)
    tune.suggest("t1")
    tune.on_trial_complete("t1", result)
    assert planner.ended[0][:2] == ("a", "failed")
    assert "worker died" in planner.ended[0][2]


def test_error_of_a_leg_is_the_one_it_told() -> None:
    tune, planner, _ = searcher(LEG, error="ValueError: boom")
    tune.suggest("t1")
    tune.on_trial_complete("t1", error=True)
    assert planner.ended == [("a", "failed", "ValueError: boom")]


def test_tune_can_pickle_it_and_gets_nothing_of_it() -> None:
    tune, _, _ = searcher(LEG)
    assert pickle.loads(pickle.dumps(tune)).__dict__ == {}
