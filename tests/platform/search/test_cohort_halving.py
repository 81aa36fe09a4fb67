"""Cohort halving in whole studies: the same trials, decisions and results whatever happens on the way."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_studies import Paper, drive, uniform

from crossover.platform.execution.decisions import CohortDrawn, LegStarted, Suggested
from crossover.platform.search.plan import Leg, Wait
from crossover.platform.search.schedulers import SchedulerSettings

SET_RULES = ["cohort_halving", "patient_halving", "hyperband", "median"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("rule", SET_RULES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_order_any_workers_and_any_kills_give_the_same_study(rule: str, sampler: str, seed: int) -> None:
    kwargs = {"scheduler": rule, "sampler": sampler, "trials": 8, "cohort": 5, "repeats": 2, "final_repeats": 3}
    undisturbed = Paper(**kwargs, slots=1)  # type: ignore[arg-type]
    disturbed = Paper(**kwargs, slots=1 + seed % 5)  # type: ignore[arg-type]
    for paper in (undisturbed, disturbed):
        paper.results.stops_early = lambda i: 30_000 * uniform(i, "stop") if uniform(i) < 0.3 else math.inf
    undisturbed.run()
    drive(disturbed, random.Random(seed).randrange, kills=3)
    assert disturbed.decisions() == undisturbed.decisions()
    assert disturbed.results.table() == undisturbed.results.table()
    assert set(disturbed.trial_ids()) == set(undisturbed.trial_ids()) == set(undisturbed.results.ends)


def promoted(paper: Paper, rung: int, label: str) -> set[str]:
    return {str(d[3]) for d in paper.decisions() if (d[0], d[2], d[4]) == (label, rung, "promote")}


def test_the_best_third_goes_on_at_each_rung_and_the_rest_is_pruned_in_the_end() -> None:
    paper = Paper(trials=9).run()
    for label in ("objective=ar", "objective=mdm"):
        trials = {line.trial_id for line in paper.log if isinstance(line, Suggested) and line.stratum_label == label}
        for rung, epochs in enumerate((3.0, 9.0)):
            tokens = paper.horizon.tokens(paper.horizon.evaluation_near(epochs))
            ranked = sorted(trials, key=lambda i: paper.results.curve(i, tokens))
            trials = promoted(paper, rung, label)
            assert trials == set(ranked[: 3 - 2 * rung])
        assert [paper.results.ends[i][0] for i in trials] == ["completed"]
    assert Counter(reason for reason, _ in paper.results.ends.values()) == {"completed": 2, "pruned": 16}


def test_leg_of_a_promoted_trial_goes_on_where_the_last_one_paused() -> None:
    paper = Paper(trials=9).run()
    legs = Counter(line.trial_id for line in paper.log if isinstance(line, LegStarted))
    assert sorted(legs.values()) == [1] * 12 + [2] * 4 + [3] * 2


def test_rung_is_not_decided_before_the_last_trial_has_come() -> None:
    paper = Paper(trials=9, axes={"rate": Paper().axes["rate"]}, slots=9)
    planner = paper.planner()
    legs = [planner.next_leg() for _ in range(9)]
    for leg in legs[1:]:
        assert isinstance(leg, Leg)
        planner.leg_ended(leg.trial_id, paper.results.train(leg))  # type: ignore[arg-type]
        assert isinstance(planner.next_leg(), Wait)
        assert not paper.decisions()
    assert isinstance(legs[0], Leg)
    planner.leg_ended(legs[0].trial_id, paper.results.train(legs[0]))  # type: ignore[arg-type]
    assert len(paper.decisions()) == 9
    assert isinstance(planner.next_leg(), Leg)


def test_waiting_trials_free_their_slots_for_other_cohorts() -> None:
    paper = Paper(trials=9, slots=1).run()
    first = [line for line in paper.log if isinstance(line, LegStarted)][:17]  # the 18th trial comes after a promotion
    assert len({line.trial_id for line in first}) == 17


def test_leader_of_one_stratum_stops_nobody_in_another() -> None:
    paper = Paper(trials=9)
    slow = "mdm"
    paper.results.curve = lambda i, tokens: (10.0 if slow in i else 1.0) + 100 / tokens + uniform(i)
    paper.run()
    finished = [i for i, (reason, _) in paper.results.ends.items() if reason == "completed"]
    assert sorted(slow in i for i in finished) == [False, True]


def test_ties_go_to_the_smaller_configuration_hash() -> None:
    paper = Paper(trials=9, axes={"rate": Paper().axes["rate"]})
    paper.results.curve = lambda i, tokens: 1.0
    paper.run()
    lines = [line for line in paper.log if isinstance(line, Suggested)]
    best = sorted(lines, key=lambda line: line.config_hash)
    assert promoted(paper, 0, lines[0].stratum_label) == {line.trial_id for line in best[:3]}
    assert promoted(paper, 1, lines[0].stratum_label) == {best[0].trial_id}


def test_repeats_go_on_together_by_their_mean() -> None:
    paper = Paper(trials=9, repeats=3, axes={"rate": Paper().axes["rate"]}).run()
    lines = {line.trial_id: line for line in paper.log if isinstance(line, Suggested)}
    label = next(iter(lines.values())).stratum_label
    tokens = paper.horizon.tokens(paper.horizon.evaluation_near(3.0))
    means = {
        number: sum(paper.results.curve(i, tokens) for i, line in lines.items() if line.number == number) / 3
        for number in range(9)
    }
    best = sorted(means, key=lambda number: means[number])[:3]
    assert promoted(paper, 0, label) == {i for i, line in lines.items() if line.number in best}


def test_trial_that_fails_after_its_promotion_gives_its_place_to_the_next_best() -> None:
    paper = Paper(trials=9, axes={"rate": Paper().axes["rate"]}, slots=1)
    planner, broken = paper.planner(), ""
    while isinstance(leg := planner.next_leg(), Leg):
        if leg.leg > 1 and not broken:
            broken = leg.trial_id
        if leg.trial_id == broken:
            planner.leg_ended(leg.trial_id, "failed", "boom")
        else:
            planner.leg_ended(leg.trial_id, paper.results.train(leg))  # type: ignore[arg-type]
    assert paper.results.ends[broken][0] == "failed"
    label = next(line.stratum_label for line in paper.log if isinstance(line, Suggested))
    assert len(promoted(paper, 0, label)) == 4
    assert len(promoted(paper, 1, label)) == 1
    assert "completed" in {reason for reason, _ in paper.results.ends.values()}


def test_trials_that_end_by_themselves_take_no_place() -> None:
    paper = Paper(trials=9, axes={"rate": Paper().axes["rate"]})
    paper.results.stops_early = lambda i: 600 if uniform(i) < 0.5 else math.inf
    paper.run()
    early = [i for i in paper.trial_ids() if uniform(i) < 0.5]
    assert 0 < len(early) < 7
    label = next(line.stratum_label for line in paper.log if isinstance(line, Suggested))
    assert len(promoted(paper, 0, label)) == 3


def test_trial_without_any_value_is_the_last() -> None:
    paper = Paper(trials=9, axes={"rate": Paper().axes["rate"]})
    lost = paper.run().trial_ids()[:3]
    again = Paper(trials=9, axes={"rate": Paper().axes["rate"]})
    again.results.curve = lambda i, tokens: math.nan if i in lost else uniform(i)
    again.run()
    assert all(again.results.ends[i][0] == "pruned" for i in lost)


def test_next_cohort_is_drawn_when_all_of_the_last_has_ended() -> None:
    paper = Paper(trials=9, cohort=3, axes={"rate": Paper().axes["rate"]}, slots=4).run()
    drawn = [(line.number, line.first, line.size) for line in paper.log if isinstance(line, CohortDrawn)]
    assert drawn == [(0, 0, 3), (1, 3, 3), (2, 6, 3)]
    kinds = [type(line).__name__ for line in paper.log if isinstance(line, CohortDrawn | LegStarted)]
    legs = [len(part) for part in "".join("c" if kind == "CohortDrawn" else "l" for kind in kinds).split("c")]
    assert legs == [0, 4, 4, 4]


def test_cohort_of_one_has_no_rungs() -> None:
    paper = Paper(trials=1).run()
    assert paper.decisions() == set()
    assert sum(isinstance(line, LegStarted) for line in paper.log) == 2


def test_grown_study_leaves_what_was_decided_and_draws_another_cohort() -> None:
    paper = Paper(trials=9).run()
    before, table = paper.decisions(), paper.results.table()
    paper.trials = 15
    paper.run()
    assert before <= paper.decisions()
    assert table.items() <= paper.results.table().items()
    assert len(paper.trial_ids()) == 30


def test_finished_study_has_no_work_and_a_paused_one_has() -> None:
    paper = Paper(trials=9, slots=1)
    planner = paper.planner()
    for _ in range(18):
        leg = planner.next_leg()
        assert isinstance(leg, Leg)
        planner.leg_ended(leg.trial_id, paper.results.train(leg))  # type: ignore[arg-type]
    assert paper.planner().has_work
    paper.run()
    assert not paper.planner().has_work


def test_one_in_eta_costs_a_fraction_of_training_all_to_the_end() -> None:
    paper = Paper(trials=27, settings=SchedulerSettings(eta=3)).run()
    spent = sum(paper.results.seen.values())
    assert spent < 0.2 * len(paper.trial_ids()) * paper.horizon.tokens(27.0)
