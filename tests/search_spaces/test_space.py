"""Strata, conditions and suggestions of axes together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossover.search_spaces import Axis, Scalar, Space, SpaceError

optuna.logging.set_verbosity(optuna.logging.ERROR)

RECIPES = {
    "recipe": Axis(choice=["shared", "tuned"], role="scientific"),
    "objective.name": Axis(choice=["autoregressive", "masked_diffusion"], role="scientific"),
    "optimizer.learning_rate": Axis(log_uniform=[1e-4, 1e-2], role="nuisance", when={"recipe": "tuned"}),
    "regularization.input_noise": Axis(
        choice=[0.0, 0.1], role="nuisance", when={"recipe": "tuned", "objective.name": "autoregressive"}
    ),
    "schedule.batch_size": Axis(integer=[8, 16], role="nuisance", when={"recipe": "tuned"}),
}


class Source:
    """Writes down what it is asked, and gives the last choice and the high ends."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        self.asked.append((name, tuple(choices)))
        return choices[-1]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append((name, low, high, log))
        return high

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.asked.append((name, low, high))
        return high


def test_strata_are_every_combination_with_readable_labels() -> None:
    assert [stratum.label for stratum in Space(RECIPES).strata()] == [
        "recipe=shared objective=autoregressive",
        "recipe=shared objective=masked_diffusion",
        "recipe=tuned objective=autoregressive",
        "recipe=tuned objective=masked_diffusion",
    ]


def test_scientific_axis_under_a_condition_splits_only_where_it_applies() -> None:
    axes = {
        "model.size": Axis(grid=["400k", "1M"], role="scientific", when={"recipe": "tuned"}),
        "recipe": Axis(choice=["shared", "tuned"], role="scientific"),
    }
    space = Space(axes, {"model.size": "400k"})
    assert [dict(stratum.settings) for stratum in space.strata()] == [
        {"recipe": "shared"},
        {"model.size": "400k", "recipe": "tuned"},
        {"model.size": "1M", "recipe": "tuned"},
    ]


def test_without_scientific_axes_there_is_one_stratum() -> None:
    (stratum,) = Space({}).strata()
    assert (stratum.label, dict(stratum.settings)) == ("all", {})
    assert Space({}).suggest(stratum, Source()) == {}


def test_equal_last_names_are_told_apart_in_labels() -> None:
    axes = {
        "optimizer.name": Axis(choice=["adamw"], role="scientific"),
        "a.width": Axis(choice=[1], role="scientific"),
        "b.width": Axis(choice=[True, None], role="scientific"),
    }
    assert Space(axes).strata()[1].label == "optimizer=adamw a.width=1 b.width=null"


def test_source_is_asked_for_the_axes_that_apply_and_no_others() -> None:
    space = Space(RECIPES)
    asked = []
    for stratum in space.strata():
        source = Source()
        settings = space.suggest(stratum, source)
        assert list(settings) == [item[0] for item in source.asked]
        assert list(settings) == list(space.nuisance(stratum))
        asked.append(source.asked)
    rate = ("optimizer.learning_rate", 1e-4, 1e-2, True)
    noise = ("regularization.input_noise", (0.0, 0.1))
    batch = ("schedule.batch_size", 8, 16)
    assert asked == [[], [], [rate, noise, batch], [rate, batch]]


def test_condition_on_a_fixed_setting_is_read_from_it() -> None:
    axes = {"schedule.decay_fraction": Axis(uniform=[0.1, 0.5], role="nuisance", when={"schedule.name": "wsd"})}
    for name, expected in [("wsd", ("schedule.decay_fraction",)), ("cosine", ())]:
        if name == "wsd":
            space = Space(axes, {"schedule.name": name})
            assert space.nuisance(space.strata()[0]) == expected
        else:
            with pytest.raises(SpaceError, match="the value wsd never occurs there"):
                Space(axes, {"schedule.name": name})


def test_nuisance_axis_may_depend_on_a_nuisance_axis_written_after_it() -> None:
    axes = {
        "b": Axis(uniform=[0, 1], role="nuisance", when={"a": "on"}),
        "a": Axis(choice=["off", "on"], role="nuisance"),
    }
    space = Space(axes)
    (stratum,) = space.strata()
    assert space.suggest(stratum, Source()) == {"a": "on", "b": 1.0}
    off = Source()
    off.suggest_categorical = lambda name, choices: "off"  # type: ignore[method-assign]
    assert space.suggest(stratum, off) == {"a": "off"}


def test_axis_behind_one_that_is_off_is_off_unless_the_fixed_value_holds_its_condition() -> None:
    axes = {
        "recipe": Axis(choice=["shared", "tuned"], role="scientific"),
        "schedule.name": Axis(choice=["wsd", "cosine"], role="nuisance", when={"recipe": "tuned"}),
        "schedule.decay_fraction": Axis(uniform=[0.1, 0.5], role="nuisance", when={"schedule.name": "wsd"}),
    }
    shared, _ = (Space(axes)).strata()
    assert Space(axes).nuisance(shared) == ()
    assert Space(axes, {"schedule.name": "wsd"}).nuisance(shared) == ("schedule.decay_fraction",)


def test_grids_are_visited_in_order_round_and_round_while_the_rest_is_sampled() -> None:
    axes = {
        "a": Axis(grid=[1, 2], role="nuisance"),
        "rate": Axis(uniform=[0, 1], role="nuisance"),
        "b": Axis(grid=["x", "y", "z"], role="nuisance"),
    }
    space = Space(axes)
    (stratum,) = space.strata()
    visited = [space.suggest(stratum, Source(), number) for number in range(7)]
    assert [(point["a"], point["b"]) for point in visited] == [
        *itertools.product([1, 2], "xyz"),
        (1, "x"),
    ]
    assert {point["rate"] for point in visited} == {1.0}
    assert space.is_sampled(stratum)
    assert space.points(stratum) is None


def test_grid_behind_a_grid_is_visited_only_where_it_applies() -> None:
    axes = {
        "a": Axis(grid=[1, 2], role="nuisance"),
        "b": Axis(grid=["x", "y"], role="nuisance", when={"a": 2}),
    }
    space = Space(axes)
    (stratum,) = space.strata()
    assert space.grid_points(stratum) == [{"a": 1}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    assert len(space.points(stratum) or ()) == 3
    assert not space.is_sampled(stratum)


def test_optuna_is_a_source_and_repeats_itself_by_seed() -> None:
    space = Space(RECIPES)
    stratum = space.strata()[2]

    def draw() -> list[dict[str, Scalar]]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
        return [space.suggest(stratum, study.ask(), number) for number in range(5)]

    first = draw()
    assert first == draw()
    assert len({str(settings) for settings in first}) == 5
    for settings in first:
        assert 1e-4 <= float(settings["optimizer.learning_rate"]) <= 1e-2  # type: ignore[arg-type]
        assert settings["regularization.input_noise"] in (0.0, 0.1)
        assert settings["schedule.batch_size"] in range(8, 17)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"a": Axis(uniform=[0, 1], role="scientific")}, "axes.a: a scientific axis splits strata"),
        (
            {
                "recipe": Axis(choice=["x"], role="scientific"),
                "a": Axis(choice=[1], role="nuisance", when={"recpe": "x"}),
            },
            "axes.a.when.recpe: neither an axis nor a fixed setting; did you mean recipe",
        ),
        (
            {
                "recipe": Axis(choice=["tuned"], role="scientific"),
                "a": Axis(grid=[1], role="nuisance", when={"recipe": "tund"}),
            },
            "the value tund never occurs there .it takes tuned.; did you mean tuned",
        ),
        ({"a": Axis(choice=[1], role="nuisance", when={"a": 1})}, "wait for each other: a -> a"),
        (
            {
                "a": Axis(choice=[1], role="nuisance", when={"b": 1}),
                "b": Axis(choice=[1], role="nuisance", when={"a": 1}),
            },
            "wait for each other",
        ),
        (
            {"n": Axis(choice=[1], role="nuisance"), "s": Axis(choice=[1], role="scientific", when={"n": 1})},
            "axes.s.when.n: a scientific axis cannot depend on a nuisance axis",
        ),
        (
            {"n": Axis(choice=[1], role="nuisance"), "g": Axis(grid=[1], role="nuisance", when={"n": 1})},
            "a grid cannot depend on a sampled axis",
        ),
        (
            {"u": Axis(uniform=[0, 1], role="nuisance"), "a": Axis(choice=[1], role="nuisance", when={"u": 0.5})},
            "that one has uniform",
        ),
        (
            {"i": Axis(integer=[0, 9], role="nuisance"), "a": Axis(choice=[1], role="nuisance", when={"i": 10})},
            "the value 10 never occurs there .it takes 0 to 9",
        ),
        (
            {"i": Axis(integer=[0, 9], role="nuisance"), "a": Axis(choice=[1], role="nuisance", when={"i": True})},
            "the value True never occurs there",
        ),
        (
            {f"a{i}": Axis(choice=list(range(11)), role="scientific") for i in range(3)},
            "more than 1000 strata",
        ),
        (
            {f"a{i}": Axis(grid=list(range(22)), role="nuisance") for i in range(3)},
            "more than 10000 grid points in stratum all",
        ),
    ],
)
def test_contradicting_axes_are_refused_with_the_rule(axes: dict[str, Axis], says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        Space(axes)


def test_every_mistake_is_named_at_once() -> None:
    axes = {
        "a": Axis(uniform=[0, 1], role="scientific"),
        "b": Axis(choice=[1], role="nuisance", when={"x": 1, "y": 1}),
    }
    with pytest.raises(SpaceError) as caught:
        Space(axes)
    assert len(caught.value.mistakes) == 3


@st.composite
def scientific_axes(draw: st.DrawFn) -> dict[str, Axis]:
    """Up to four axes; each may depend on those before it, and they are then written in any order."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    axes: dict[str, Axis] = {}
    for i, size in enumerate(sizes):
        parents = draw(st.lists(st.sampled_from(list(axes)), unique=True)) if axes else []
        when = {
            name: draw(st.lists(st.sampled_from(list(axes[name].choice or ())), min_size=1, unique=True))
            for name in parents
        }
        axes[f"a{i}"] = Axis(choice=[f"{i}{j}" for j in range(size)], role="scientific", when=when)
    return {path: axes[path] for path in draw(st.permutations(list(axes)))}


@given(scientific_axes())
def test_strata_are_those_that_brute_force_finds_once_each(axes: dict[str, Axis]) -> None:
    found = [dict(stratum.settings) for stratum in Space(axes).strata()]
    expected = set()
    for values in itertools.product(*(axis.choice or () for axis in axes.values())):
        settings = dict(zip(axes, values, strict=True))
        while lost := [path for path in settings if not axes[path].holds(settings)]:
            del settings[lost[0]]
        expected.add(frozenset(settings.items()))
    assert len(found) == len(expected)
    assert {frozenset(settings.items()) for settings in found} == expected
    assert len({stratum.label for stratum in Space(axes).strata()}) == len(found)


def test_grids_times_strata_are_limited_before_they_are_all_made() -> None:
    axes = {
        "size": Axis(choice=list(range(1_000)), role="scientific"),
        "a": Axis(grid=list(range(90)), role="nuisance"),
        "b": Axis(grid=list(range(90)), role="nuisance"),
    }
    with pytest.raises(SpaceError, match="more than 100000 grid points over all strata"):
        Space(axes)


def test_axis_whose_conditions_contradict_each_other_applies_nowhere() -> None:
    space = Space(
        {
            "layers": Axis(choice=[1, 2], role="nuisance"),
            "decay": Axis(choice=[0, 1], role="nuisance", when={"layers": 1}),
            "late": Axis(uniform=[0.0, 1.0], role="nuisance", when={"layers": 2, "decay": 1}),
            "sound": Axis(uniform=[0.0, 1.0], role="nuisance", when={"layers": 1, "decay": 1}),
        }
    )
    assert space.nuisance(space.strata()[0]) == ("layers", "decay", "sound")


def test_axis_that_applies_where_another_does_not_is_reached_through_its_fixed_value() -> None:
    space = Space(
        {
            "layers": Axis(integer=[1, 5_000], role="nuisance"),
            "decay": Axis(choice=[0.2, 0.4], role="nuisance", when={"layers": 7}),
            "rate": Axis(uniform=[0.0, 1.0], role="nuisance", when={"decay": 0.1}),
        },
        {"decay": 0.1},
    )
    assert space.nuisance(space.strata()[0]) == ("layers", "decay", "rate")


def test_points_are_every_configuration_with_the_axes_that_apply() -> None:
    space = Space(
        {
            "layers": Axis(choice=[1, 2], role="nuisance"),
            "decay": Axis(choice=[0.1, 0.2], role="nuisance", when={"layers": 2}),
        }
    )
    assert space.points(space.strata()[0]) == [
        {"layers": 1},
        {"layers": 2, "decay": 0.1},
        {"layers": 2, "decay": 0.2},
    ]


def test_grids_are_asked_of_the_source_where_there_is_no_number() -> None:
    space = Space({"layers": Axis(grid=[1, 2, 4], role="nuisance")})
    source = Source()
    assert space.suggest(space.strata()[0], source, None) == {"layers": 4}
    assert source.asked == [("layers", (1, 2, 4))]


def test_too_many_cases_of_conditions_are_refused_at_once() -> None:
    switches = {f"s{i}": Axis(choice=[0, 1], role="nuisance") for i in range(14)}
    rate = Axis(uniform=[0.0, 1.0], role="nuisance", when=dict.fromkeys(switches, 1))
    with pytest.raises(SpaceError, match=r"more than 10,000 cases of conditions"):
        Space({**switches, "rate": rate})
