"""A stratum whose share is spent ends, and the others go on."""

from __future__ import annotations

import pytest
from paper_studies import Paper

from crossover.platform.execution.decisions import StratumStopped, TrialClosed
from crossover.platform.search.budget import Budget
from crossover.platform.search.plan import Finished, Leg


def run_to_the_budget(paper: Paper) -> list[str]:
    """Runs a study as the driver does; a trial that is asked to stop ends with reason `budget`."""
    planner, live, asked = paper.planner(), list[Leg](), list[str]()
    while not isinstance(leg := planner.next_leg(), Finished):
        if isinstance(leg, Leg):
            live.append(leg)
            continue
        done = live.pop(0)
        status = paper.results.train(done)
        assert paper.budget is not None
        paper.budget.note(done.trial_id, paper.results.outcome(done.trial_id).flops)
        for trial_id, evidence in planner.stop_exhausted():
            asked.append(trial_id)
            if trial_id != done.trial_id:
                paper.results.close(trial_id, "budget", evidence)
        planner.leg_ended(done.trial_id, status)  # type: ignore[arg-type]
    return asked


@pytest.mark.parametrize("rule", ["none", "cohort_halving"])
def test_stratum_that_spent_its_share_ends_and_the_other_is_not_touched(rule: str) -> None:
    whole = Paper(scheduler=rule, trials=9, slots=4).run()
    flops = sum(whole.results.outcome(i).flops for i in whole.trial_ids())
    shares = {"objective=ar": 0.1, "objective=mdm": 0.9}
    paper = Paper(scheduler=rule, trials=9, slots=4, budget=Budget(flops, None, shares=shares))
    asked = run_to_the_budget(paper)
    table, reference = paper.results.table(), whole.results.table()
    assert asked and all("ar" in trial_id for trial_id in asked)
    assert {i: row for i, row in table.items() if "mdm" in i} == {i: r for i, r in reference.items() if "mdm" in i}
    stopped = [line for line in paper.log if isinstance(line, StratumStopped)]
    assert [(line.stratum_label, line.reason) for line in stopped] == [("objective=ar", "budget")]
    assert "10% of budget.flops" in stopped[0].evidence
    closed = {line.trial_id for line in paper.log if isinstance(line, TrialClosed) and line.reason == "budget"}
    assert all("ar" in trial_id for trial_id in closed)
    again = paper.planner()
    assert not again.has_work
    assert (again.spent is not None) == (len(table) < 18)


def test_running_trial_of_a_spent_stratum_is_asked_once() -> None:
    budget = Budget(100.0, None, shares={"objective=ar": 0.5, "objective=mdm": 0.5})
    paper = Paper(scheduler="none", trials=3, slots=2, budget=budget)
    planner = paper.planner()
    first, second = planner.next_leg(), planner.next_leg()
    assert isinstance(first, Leg) and isinstance(second, Leg)
    budget.note(first.trial_id, 60.0)
    assert [trial_id for trial_id, _ in planner.stop_exhausted()] == [first.trial_id]
    assert planner.stop_exhausted() == []


def test_trial_that_pauses_in_a_spent_stratum_is_ended_there() -> None:
    budget = Budget(100.0, None, shares={"objective=ar": 0.5, "objective=mdm": 0.5})
    paper = Paper(trials=9, slots=1, budget=budget)
    planner = paper.planner()
    leg = planner.next_leg()
    assert isinstance(leg, Leg)
    status = paper.results.train(leg)
    assert status == "paused"
    budget.note(leg.trial_id, 60.0)
    planner.stop_exhausted()
    planner.leg_ended(leg.trial_id, "paused")
    assert paper.results.ends[leg.trial_id][0] == "budget"
    following = planner.next_leg()
    assert isinstance(following, Leg)
    assert following.suggested.stratum_label != leg.suggested.stratum_label


def test_raised_budget_lets_a_stratum_go_on() -> None:
    shares = {"objective=ar": 0.5, "objective=mdm": 0.5}
    paper = Paper(scheduler="none", trials=3, slots=1, budget=Budget(10.0, None, shares=shares))
    run_to_the_budget(paper)
    assert len(paper.results.ends) < 6
    paper.budget = Budget(1e12, None, shares=shares)
    run_to_the_budget(paper)
    assert len(paper.results.ends) == 6
