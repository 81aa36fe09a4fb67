"""The planner, driven by hand: no Ray, no training, any interleaving, rebuilt from its log at any point."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.platform.execution.decisions import Decision, LegEnded, LegStarted, Suggested
from crossover.platform.search.plan import Finished, Leg, Outcome, Plan, Wait
from crossover.platform.search.planner import Planner
from crossover.platform.search.schedulers import Cohort, Horizon, RungDecision, Scheduler
from crossover.platform.search.schedulers.none import NoScheduler
from crossover.platform.search.searchers import Searcher, make_searcher
from crossover.search_spaces import Axis, Scalar, Space, Stratum
from crossover.trainers.rows import StopReason

AXES = {
    "objective.name": Axis(choice=("ar", "mdm"), role="scientific"),
    "rate": Axis(log_uniform=(1e-4, 1e-1), role="nuisance"),
    "dropout": Axis(choice=(0.0, 0.1, 0.3), role="nuisance"),
    "decay": Axis(uniform=(0.0, 1.0), role="nuisance", when={"objective.name": "ar"}),
}

HORIZON = Horizon(unique_tokens=100, max_epochs=10.0, first_evaluation=1.0, evaluation_ratio=1.25)


@dataclass
class Slot:
    """One stratum of a space."""

    space: Space
    stratum: Stratum
    num_configurations: int
    searcher: Searcher

    @property
    def label(self) -> str:
        return self.stratum.label

    @property
    def settings(self) -> Mapping[str, Scalar]:
        return self.stratum.settings

    @property
    def cohort_size(self) -> int:
        return self.num_configurations

    @property
    def horizon(self) -> Horizon:
        return HORIZON

    def max_tokens(self, settings: Mapping[str, Scalar]) -> int:
        return HORIZON.tokens(HORIZON.max_epochs)

    def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
        everything = sorted({**self.stratum.settings, **settings}.items())
        return f"{everything}#{repeat}", str(everything)


@dataclass
class Records:
    """Records in memory. A value is a function of the trial, as for a deterministic trainer."""

    ends: dict[str, StopReason] = field(default_factory=dict)

    def outcome(self, trial_id: str) -> Outcome:
        ended = trial_id in self.ends
        has_value = ended and self.ends[trial_id] != "failed"
        return Outcome(ended, random.Random(trial_id).random() if has_value else None)

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        assert trial_id not in self.ends
        self.ends[trial_id] = reason


@dataclass
class Bench:
    """A study on paper."""

    axes: Mapping[str, Axis] = field(default_factory=lambda: AXES)
    trials: int = 4
    repeats: int = 1
    final_repeats: int = 1
    slots: int = 2
    sampler: str = "random"
    scheduler: Scheduler = field(default_factory=NoScheduler)
    log: list[Decision] = field(default_factory=list)
    records: Records = field(default_factory=Records)

    def planner(self) -> Planner:
        space = Space(self.axes)
        strata = [
            Slot(
                space,
                stratum,
                self.trials if space.is_sampled(stratum) else 1,
                make_searcher(
                    self.sampler,
                    lambda source, number, stratum=stratum: space.suggest(stratum, source, number),
                    (0, stratum.label),
                    self.trials,
                ),
            )
            for stratum in space.strata()
        ]
        plan = Plan(strata, self.scheduler, self.repeats, self.final_repeats)
        return Planner(plan, self.records, self.log.append, slots=self.slots, history=list(self.log))

    def suggested(self) -> list[Suggested]:
        return [line for line in self.log if isinstance(line, Suggested)]

    def run(self) -> list[Leg]:
        """To the end, one leg at a time, every trial ending by itself."""
        planner, legs = self.planner(), []
        while isinstance(leg := planner.next_leg(), Leg):
            legs.append(leg)
            self.records.ends[leg.trial_id] = "completed"
            planner.leg_ended(leg.trial_id, "ended")
        assert isinstance(leg, Finished)
        return legs


def test_every_configuration_of_every_stratum_is_run_once() -> None:
    bench = Bench(trials=4)
    legs = bench.run()
    assert [leg.suggested.stratum_label for leg in legs[:4]] == ["objective=ar", "objective=mdm"] * 2
    assert len({leg.trial_id for leg in legs}) == len(legs) == 8


def test_trial_that_has_ended_never_gets_another_leg() -> None:
    grid = Axis(grid=("ar", "mdm"), role="scientific")
    bench = Bench(axes={"objective.name": grid}, final_repeats=3)
    assert len(bench.run()) == 6
    for _ in range(3):  # a new driver, again and again, over what has ended
        planner = bench.planner()
        assert not planner.has_work
        assert isinstance(planner.next_leg(), Finished)


def test_never_more_legs_than_slots() -> None:
    planner = Bench(slots=2).planner()
    assert isinstance(planner.next_leg(), Leg)
    assert isinstance(planner.next_leg(), Leg)
    assert isinstance(planner.next_leg(), Wait)


def test_stratum_without_nuisance_axes_has_one_configuration() -> None:
    bench = Bench(axes={"objective.name": AXES["objective.name"]}, trials=7)
    assert len(bench.run()) == 2


def test_finite_space_ends_before_its_trials_are_used_up() -> None:
    bench = Bench(axes={"dropout": AXES["dropout"]}, trials=50)
    legs = bench.run()
    assert sorted(leg.suggested.settings["dropout"] for leg in legs) == [0.0, 0.1, 0.3]


def test_repeats_share_a_configuration_and_start_one_after_another() -> None:
    legs = Bench(trials=2, repeats=2).run()
    assert [leg.suggested.repeat for leg in legs] == [0, 1] * 4
    assert legs[0].suggested.config_hash == legs[1].suggested.config_hash
    assert legs[0].trial_id != legs[1].trial_id


def test_best_configuration_of_each_stratum_is_confirmed() -> None:
    bench = Bench(trials=4, repeats=1, final_repeats=3)
    bench.run()
    for label in ("objective=ar", "objective=mdm"):
        lines = [line for line in bench.suggested() if line.stratum_label == label]
        search = [line for line in lines if line.purpose == "search"]
        best = min(search, key=lambda line: bench.records.outcome(line.trial_id).value or 9)
        confirm = [(line.number, line.repeat) for line in lines if line.purpose == "confirm"]
        assert confirm == [(best.number, 1), (best.number, 2)]


def test_interrupted_trial_goes_on_before_anything_new() -> None:
    bench = Bench()
    planner = bench.planner()
    first, second = planner.next_leg(), planner.next_leg()
    assert isinstance(first, Leg) and isinstance(second, Leg)
    planner.leg_ended(second.trial_id, "interrupted")
    again = planner.next_leg()
    assert isinstance(again, Leg)
    assert (again.trial_id, again.leg) == (second.trial_id, 2)


def test_failed_trial_is_tried_once_more_and_then_given_up() -> None:
    bench = Bench(axes={"objective.name": AXES["objective.name"]})
    planner = bench.planner()
    leg = planner.next_leg()
    assert isinstance(leg, Leg)
    planner.leg_ended(leg.trial_id, "failed", "boom")
    again = planner.next_leg()
    assert isinstance(again, Leg)
    assert again.trial_id == leg.trial_id
    planner.leg_ended(again.trial_id, "failed", "boom")
    assert bench.records.ends == {leg.trial_id: "failed"}
    other = planner.next_leg()
    assert isinstance(other, Leg)
    assert other.trial_id != leg.trial_id


def test_trial_given_up_by_a_driver_that_died_is_closed_by_the_next() -> None:
    bench = Bench(axes={"objective.name": AXES["objective.name"]})
    planner = bench.planner()
    leg = planner.next_leg()
    assert isinstance(leg, Leg)
    planner.leg_ended(leg.trial_id, "failed", "boom")
    bench.log += [
        LegStarted(trial_id=leg.trial_id, leg=2),
        LegEnded(trial_id=leg.trial_id, leg=2, status="failed", error="boom"),
    ]
    bench.planner()
    assert bench.records.ends == {leg.trial_id: "failed"}


def test_trial_that_claims_an_end_it_did_not_write_has_failed() -> None:
    bench = Bench()
    planner = bench.planner()
    leg = planner.next_leg()
    assert isinstance(leg, Leg)
    planner.leg_ended(leg.trial_id, "ended")
    ended = bench.log[-1]
    assert isinstance(ended, LegEnded)
    assert ended.status == "failed"
    assert planner.unfinished == (leg.trial_id,)


def test_stopped_planner_starts_nothing_and_waits_for_what_runs() -> None:
    planner = Bench().planner()
    leg = planner.next_leg()
    assert isinstance(leg, Leg)
    planner.stop()
    assert isinstance(planner.next_leg(), Wait)
    planner.leg_ended(leg.trial_id, "interrupted")
    assert isinstance(planner.next_leg(), Finished)


def test_trial_that_two_strata_ask_for_runs_once_and_counts_in_both() -> None:
    class SameTrial(Slot):
        def identify(self, settings: Mapping[str, Scalar], repeat: int) -> tuple[str, str]:
            return "one", "one"

    space = Space({"recipe": Axis(choice=("a", "b"), role="scientific")})
    searcher = make_searcher("random", lambda source, number: {}, (0,), 1)
    log: list[Decision] = []
    records = Records()
    plan = Plan([SameTrial(space, stratum, 1, searcher) for stratum in space.strata()], NoScheduler(), 1, 1)
    planner = Planner(plan, records, log.append, slots=2)
    assert isinstance(planner.next_leg(), Leg)
    assert isinstance(planner.next_leg(), Wait)
    records.ends["one"] = "completed"
    planner.leg_ended("one", "ended")
    assert isinstance(planner.next_leg(), Finished)
    assert [line.stratum_label for line in log if isinstance(line, Suggested)] == ["recipe=a", "recipe=b"]


class Halving(Scheduler):
    """The better half of a complete cohort goes on after 100 tokens."""

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        return (1.0,)

    def decide(self, cohort: Cohort) -> Sequence[RungDecision]:
        ranked = sorted(cohort.undecided, key=lambda s: s.trial_id)
        return [
            RungDecision(s.trial_id, 0, "promote" if i < cohort.size // 2 else "stop", f"rank {i}")
            for i, s in enumerate(ranked)
        ]


def test_scheduler_is_asked_at_rungs_and_its_decisions_are_carried_out() -> None:
    bench = Bench(axes={"rate": AXES["rate"]}, trials=4, scheduler=Halving())
    planner = bench.planner()
    untils = []
    while isinstance(leg := planner.next_leg(), Leg):
        untils.append(leg.until_tokens)
        if leg.until_tokens is None:
            bench.records.ends[leg.trial_id] = "completed"
        planner.leg_ended(leg.trial_id, "paused" if leg.until_tokens else "ended")
    assert untils == [100] * 4 + [None] * 2
    assert sorted(bench.records.ends.values()) == ["completed", "completed", "pruned", "pruned"]


def _shuffled(bench: Bench, choose: Callable[[int], int], kills: int) -> None:
    """Runs a study in some interleaving, with failures, interruptions, and drivers that die between any two lines."""
    planner, live = bench.planner(), []
    while True:
        event = choose(10)
        if event == 0 and kills:
            kills -= 1
            bench.log = bench.log[: len(bench.log) - choose(3)]  # the last lines were not written yet
            planner, live = bench.planner(), []
        leg = planner.next_leg()
        if isinstance(leg, Finished):
            return
        if isinstance(leg, Leg):
            live.append(leg)
        if isinstance(leg, Wait) or event > 5:
            ended = live.pop(choose(len(live)))
            if event == 1:
                planner.leg_ended(ended.trial_id, "interrupted")
            elif event == 2:
                planner.leg_ended(ended.trial_id, "failed", "boom")
            else:
                bench.records.ends[ended.trial_id] = "completed"
                if event != 3 or not kills:
                    planner.leg_ended(ended.trial_id, "ended")
                else:  # the driver dies after the trial has ended and before it hears of it
                    kills -= 1
                    planner, live = bench.planner(), []


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_interleaving_with_kills_plans_every_configuration_exactly_once(sampler: str, data: st.DataObject) -> None:
    bench = Bench(trials=4, repeats=2, final_repeats=3, slots=3, sampler=sampler)
    _shuffled(bench, lambda n: data.draw(st.integers(0, n - 1)), kills=3)
    lines = bench.suggested()
    assert len({line.trial_id for line in lines}) == len(lines) == 2 * (4 * 2 + 1)
    assert {(line.stratum_label, line.number) for line in lines} == {
        (label, number) for label in ("objective=ar", "objective=mdm") for number in range(4)
    }
    assert {line.trial_id for line in lines} == set(bench.records.ends)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_interrupted_study_plans_the_same_trials_as_an_undisturbed_one(data: st.DataObject) -> None:
    undisturbed = Bench(trials=6, slots=1, sampler="random")
    undisturbed.run()
    disturbed = Bench(trials=6, slots=3, sampler="random")
    _shuffled(disturbed, lambda n: data.draw(st.integers(0, n - 1)), kills=3)
    assert {line.trial_id for line in undisturbed.suggested()} == {line.trial_id for line in disturbed.suggested()}


def test_rebuilt_planner_with_a_learning_sampler_goes_on_with_the_same_trials() -> None:
    undisturbed = Bench(trials=12, slots=1, sampler="tpe")
    expected = [leg.trial_id for leg in undisturbed.run()]
    for stop in range(1, 24, 5):
        bench = Bench(trials=12, slots=1, sampler="tpe")
        planner, ran = bench.planner(), []
        for _ in range(stop):
            leg = planner.next_leg()
            assert isinstance(leg, Leg)
            ran.append(leg.trial_id)
            bench.records.ends[leg.trial_id] = "completed"
            planner.leg_ended(leg.trial_id, "ended")
        ran += [leg.trial_id for leg in bench.run()]
        assert ran == expected


def test_every_point_of_a_finite_space_is_found() -> None:
    for seed in range(20):
        bench = Bench(axes={f"dropout{seed}": AXES["dropout"]}, trials=3)
        assert sorted(leg.suggested.settings[f"dropout{seed}"] for leg in bench.run()) == [0.0, 0.1, 0.3]


def test_searcher_is_told_the_mean_of_the_repeats_once_all_have_ended() -> None:
    bench = Bench(axes={"dropout": AXES["dropout"]}, trials=2, repeats=2, slots=4)
    planner = bench.planner()
    (stratum,) = planner._plan.strata
    told: list[tuple[int, float | None]] = []
    stratum.searcher.tell = lambda number, value: told.append((number, value))  # type: ignore[method-assign]
    legs = [planner.next_leg() for _ in range(4)]
    for leg in (legs[0], legs[3]):
        assert isinstance(leg, Leg)
        bench.records.ends[leg.trial_id] = "completed"
        planner.leg_ended(leg.trial_id, "ended")
    assert told == []
    for leg, reason in ((legs[1], "completed"), (legs[2], "failed")):
        assert isinstance(leg, Leg)
        bench.records.ends[leg.trial_id] = reason  # type: ignore[assignment]
        planner.leg_ended(leg.trial_id, "ended")
    values = [bench.records.outcome(leg.trial_id).value for leg in legs if isinstance(leg, Leg)]
    assert values[0] is not None and values[1] is not None
    assert told == [(0, pytest.approx((values[0] + values[1]) / 2)), (1, values[3])]


def test_trial_whose_record_is_whole_is_not_run_again_though_its_decisions_are_lost() -> None:
    bench = Bench(trials=3)
    bench.run()
    bench.log.clear()
    assert bench.run() == []
    assert len(bench.suggested()) == 6
