"""What each rule adds to cohort halving: patience, brackets, the median, and promotion by arrival."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import pytest
from paper_studies import AXES, Paper, uniform

from crossover.platform.execution.decisions import LegStarted, Suggested
from crossover.platform.search.plan import Outcome
from crossover.platform.search.planner_state import CohortState, TrialState
from crossover.platform.search.rungs import Horizon, num_useful_rungs, rung_epochs
from crossover.platform.search.schedulers import (
    Cohort,
    CurvePoint,
    Reached,
    SchedulerSettings,
    Standing,
    get_scheduler,
)
from crossover.platform.search.schedulers.hyperband import bracket_sizes
from crossover.trainers.rows import StopReason

ONE = {"rate": AXES["rate"]}


def late_winner(trial_id: str, tokens: float) -> float:
    """Three in ten start far behind, and fall for longer."""
    if uniform(trial_id, "slow") < 0.3:
        return 1.0 + 0.2 * uniform(trial_id) + 3.0 * (tokens / 250) ** -0.45
    return 1.6 + 0.2 * uniform(trial_id) + 0.8 * (tokens / 250) ** -0.9


def completed(paper: Paper) -> list[str]:
    return [trial_id for trial_id, (reason, _) in paper.results.ends.items() if reason == "completed"]


def spent(paper: Paper) -> float:
    return sum(paper.results.outcome(trial_id).flops for trial_id in paper.trial_ids())


def test_patience_keeps_the_late_winner_that_halving_stops() -> None:
    kwargs = {"axes": ONE, "trials": 18, "settings": SchedulerSettings(eta=3, first_epoch=1.0)}
    papers = {rule: Paper(scheduler=rule, **kwargs) for rule in ("cohort_halving", "patient_halving", "none")}  # type: ignore[arg-type]
    for paper in papers.values():
        paper.results.curve = late_winner
        paper.run()
    reference = papers["none"]
    best = min(completed(reference), key=lambda i: reference.results.outcome(i).value or math.inf)
    assert papers["cohort_halving"].results.ends[best][0] == "pruned"
    assert papers["patient_halving"].results.ends[best][0] == "completed"
    assert spent(papers["patient_halving"]) < 0.6 * spent(reference)
    kept = [str(d[5]) for d in papers["patient_halving"].decisions() if "kept below the cut" in str(d[5])]
    assert any("its curve may come to" in reason for reason in kept)


def test_no_patience_is_halving_at_every_rung() -> None:
    kwargs = {"axes": ONE, "trials": 27}
    papers = [
        Paper(scheduler="patient_halving", settings=SchedulerSettings(patience_fraction=0.0), **kwargs),  # type: ignore[arg-type]
        Paper(scheduler="cohort_halving", **kwargs),  # type: ignore[arg-type]
    ]
    for paper in papers:
        paper.results.curve = late_winner
        paper.run()
    assert set(completed(papers[0])) == set(completed(papers[1]))
    assert papers[0].results.seen == papers[1].results.seen


def a_cohort(number: int, floor: float, earlier: Sequence[Cohort] = ()) -> Cohort:
    """Four that fall alike: two came to their end, two wait at the first rung, one of them 0.02 above the best."""
    horizon = Horizon(1_000, 27.0, 0.25, 1.25)
    cohort = Cohort(4, horizon, 4 * number, earlier=earlier)
    for place, extra in enumerate([0.0, 0.05, 0.02, 0.20]):
        until = 27_000 if place < 2 else 1_000
        grid = [t for i in range(30) if (t := round(100 * 1.25**i)) <= until]
        points = [CurvePoint(t, floor + extra + (t / 100) ** -0.5, 6.0 * t) for t in grid]
        reached = next(p for p in reversed(points) if p.tokens <= 1_000)
        cohort.put(
            Standing(
                trial_id=f"t{4 * number + place}",
                stratum="s",
                number=4 * number + place,
                repeat=0,
                config_hash=f"{place}",
                state="ended" if place < 2 else "paused",
                complete=place < 2,
                value=points[-1].value,
                reached=(Reached(reached.value, reached.flops),),
                passed=1 if place < 2 else 0,
                flops=points[-1].flops,
                max_tokens=27_000,
                curve=points,
            )
        )
    return cohort


def kept_of(cohort: Cohort, fraction: float = 0.9) -> dict[str, str]:
    decisions = get_scheduler("patient_halving", SchedulerSettings(patience_fraction=fraction)).decide(cohort)
    return {d.trial_id: d.reason for d in decisions if d.action == "keep"}


def test_later_cohort_is_measured_against_the_best_of_its_stratum() -> None:
    first = a_cohort(0, 3.0)
    assert list(kept_of(a_cohort(1, 3.5))) == ["t6"]
    assert kept_of(a_cohort(1, 3.5, [first])) == {}
    kept = kept_of(a_cohort(1, 3.0, [first]))
    assert list(kept) == ["t6"]
    assert f"the cut of {first.standing('t0').value:.4f}" in kept["t6"]


def one_of_three(*waiting: tuple[int, float, bool]) -> dict[str, str]:
    """Who is kept first beside one that ended: each waits at a rung, has a floor, and three evaluations or all."""
    cohort = Cohort(3, Horizon(1_000, 27.0, 0.25, 1.25))
    for number, (rung, floor, early) in enumerate(((3, 3.0, False), *waiting)):
        until = 1_000 * 3**rung
        grid = [500, 1_000, 3_000] if early else [t for i in range(30) if (t := round(100 * 1.25**i)) <= until]
        curve = [CurvePoint(t, floor + (t / 100) ** -0.5, 6.0 * t) for t in grid]
        there = [next(p for p in reversed(curve) if p.tokens <= 1_000 * 3**r) for r in range(min(rung + 1, 3))]
        standing = Standing(
            trial_id=f"t{number}",
            stratum="s",
            number=number,
            repeat=0,
            config_hash=f"{number}",
            state="ended" if number == 0 else "paused",
            complete=number == 0,
            value=curve[-1].value,
            reached=tuple(Reached(p.value, p.flops) for p in there),
            passed=rung,
            flops=curve[-1].flops,
            max_tokens=27_000,
            curve=curve,
        )
        cohort.put(standing)
    kept = kept_of(cohort)
    assert len(kept) == 1  # one in three of two
    return kept


def test_whoever_is_expected_to_end_lowest_goes_first() -> None:
    assert list(one_of_three((1, 2.99, False), (2, 2.5, False))) == ["t2"]
    assert list(one_of_three((1, 2.5, False), (2, 2.99, False))) == ["t1"]


def test_no_leg_is_begun_whose_trial_could_not_come_to_its_end() -> None:
    """26,000 tokens to go beside 55,000 that were spent: a third of all then, though the next leg has but 2,000."""
    assert kept_of(a_cohort(0, 3.0), 0.3) == {}
    assert list(kept_of(a_cohort(0, 3.0), 0.35)) == ["t2"]


def test_those_too_early_to_tell_do_not_come_before_one_that_shows_that_it_wins() -> None:
    """With few evaluations most are too early to tell: what they may come to is what became of those ahead."""
    kept = one_of_three((2, 2.5, False), (1, 3.05, True))
    assert list(kept) == ["t1"]
    assert "its curve may come to" in kept["t1"]


def test_one_that_is_too_early_to_tell_is_kept_however_it_looks() -> None:
    kept = one_of_three((1, 9.0, True), (2, 9.0, False))
    assert list(kept) == ["t1"]
    assert "too few evaluations to say" in kept["t1"]


@pytest.mark.parametrize("reason", get_args(StopReason))
def test_trial_that_was_cut_off_says_nothing_about_where_others_will_end(reason: StopReason) -> None:
    """A study may go on with a larger budget: what the smaller one cut off did not come to its own end."""
    suggested = Paper(axes=ONE, trials=1).run().of(Suggested)[0]
    assert isinstance(suggested, Suggested)
    trial = TrialState(suggested, 27_000, state="ended", outcome=Outcome(True, 1.0, 6.0, reason))
    standing = trial.standing(CohortState("", 0, Cohort(1, Horizon(1_000, 27.0, 0.25, 1.25))))
    assert standing.complete == (reason in ("completed", "overfit", "plateau"))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.7])
def test_kept_trials_stay_within_their_share_of_the_flops(fraction: float) -> None:
    paper = Paper(
        scheduler="patient_halving", axes=ONE, trials=27, settings=SchedulerSettings(patience_fraction=fraction)
    )
    paper.results.curve = late_winner
    paper.run()
    rungs = get_scheduler("patient_halving").rungs(Cohort(27, paper.horizon), 0)
    kept = 0.0
    for trial_id in paper.trial_ids():
        going = [d for d in paper.decisions() if d[3] == trial_id and d[4] == "keep"]
        for _, _, rung, _, _, reason in going:
            if "kept below the cut" in str(reason):
                assert isinstance(rung, int)
                here = paper.horizon.tokens(rungs[rung])
                there = paper.horizon.tokens([*rungs, paper.horizon.max_epochs][rung + 1])
                kept += 6.0 * (min(there, paper.results.seen[trial_id]) - here)
    assert (kept > 0) == (fraction > 0.1)  # a tenth takes nobody to the end
    assert kept <= fraction * spent(paper) * 1.05  # the cost of a leg is estimated before it runs


def test_brackets_share_the_configurations_and_cost_about_the_same() -> None:
    assert bracket_sizes(143, 3, 5) == (81, 34, 15, 8, 5)  # table 1 of arXiv 1603.06560
    for size in range(1, 60):
        for brackets in range(1, 5):
            sizes = bracket_sizes(size, 3, brackets)
            assert sum(sizes) == size
            assert list(sizes) == sorted(sizes, reverse=True)


def test_hyperband_trains_some_configurations_without_any_rung() -> None:
    paper = Paper(scheduler="hyperband", axes=ONE, trials=27).run()
    legs = [line for line in paper.log if isinstance(line, LegStarted)]
    first = {line.trial_id for line in legs if line.leg == 1}
    assert len(first) == 27
    undecided = first - {str(decision[3]) for decision in paper.decisions()}
    assert undecided
    assert all(paper.results.ends[i][0] == "completed" for i in undecided)


def test_median_lets_the_better_half_go_on_at_each_rung() -> None:
    paper = Paper(scheduler="median", axes=ONE, trials=8).run()
    for rung, entered in ((0, 8), (1, 4), (2, 2)):
        decisions = [d for d in paper.decisions() if d[2] == rung]
        assert len(decisions) == entered
        assert sum(d[4] == "promote" for d in decisions) == entered // 2
    assert len(completed(paper)) == 1


def test_promotion_by_arrival_does_not_wait_for_the_last() -> None:
    paper = Paper(scheduler="asynchronous_halving", axes=ONE, trials=27, slots=1).run()
    legs = [line.leg for line in paper.log if isinstance(line, LegStarted)]
    assert legs.index(2) < 26
    assert len(paper.results.ends) == 27
    assert "pruned" in {reason for reason, _ in paper.results.ends.values()}


def test_ray_asha_compares_across_strata_and_loses_the_slow_one() -> None:
    paper = Paper(scheduler="asha", trials=12, slots=24)
    paper.results.curve = lambda i, tokens: (3.0 if "mdm" in i else 1.0) + 100 / tokens + uniform(i)
    paper.run()
    slow = {line.trial_id for line in paper.log if isinstance(line, Suggested) and "mdm" in line.stratum_label}
    assert not slow & set(completed(paper))
    assert completed(paper)


HORIZON = Horizon(unique_tokens=1_000, max_epochs=81.0, first_evaluation=1.0, evaluation_ratio=1.25)


def test_rungs_are_counted_down_from_the_last_epoch_unless_the_first_is_set() -> None:
    near = [HORIZON.evaluation_near(epochs) for epochs in (3, 9, 27)]
    assert list(rung_epochs(HORIZON, 3, None)) == near
    assert list(rung_epochs(HORIZON, 3, None, at_most=1)) == near[-1:]
    assert list(rung_epochs(HORIZON, 3, 3.0, at_most=1)) == near[:1]
    assert list(rung_epochs(HORIZON, 3, 1.0)) == [1.0, *near]


def test_rungs_before_the_first_evaluation_are_left_out() -> None:
    late = Horizon(unique_tokens=1_000, max_epochs=81.0, first_evaluation=10.0, evaluation_ratio=1.25)
    assert list(rung_epochs(late, 3, None)) == [late.evaluation_near(27)]
    assert list(rung_epochs(Horizon(1_000, 2.0, 1.0, 2.0), 3, None)) == []


@pytest.mark.parametrize(("size", "eta", "rungs"), [(1, 3, 0), (2, 3, 1), (3, 3, 1), (4, 3, 2), (27, 3, 3), (28, 3, 4)])
def test_rungs_end_where_one_configuration_is_left(size: int, eta: int, rungs: int) -> None:
    assert num_useful_rungs(size, eta) == rungs
