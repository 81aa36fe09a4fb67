"""What every sampler must hold: reproducible, inside the domain, the same after a resume, faithful to conditions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache

import pytest

from crossover.platform.search.searchers import SAMPLERS, Known, Searcher, SearchRequest, Settings, searcher_of
from crossover.search_spaces import Axis, Scalar, Space

NUM_TRIALS = 10

ORDERED = Space(
    {
        "family": Axis(choice=("a", "b"), role="scientific"),
        "epochs": Axis(integer=(1, 6), role="nuisance"),
        "dropout": Axis(choice=(0.0, 0.1, 0.3), role="nuisance"),
        "decay": Axis(choice=(0.1, 0.2, 0.4, 0.8), role="nuisance", when={"family": "a"}),
    }
)
"""Every sampler can search it: listed, ordered, and no axis depends on a sampled one."""

NESTED = Space(
    {
        "epochs": Axis(integer=(1, 6), role="nuisance"),
        "layers": Axis(choice=(1, 2), role="nuisance"),
        "decay": Axis(choice=(0.1, 0.2, 0.4, 0.8), role="nuisance", when={"layers": 2}),
    }
)
NEEDS_COMMON_AXES = ("gp", "nsga2")


def searcher(sampler: str, space: Space = ORDERED, seed: int = 0, stratum: int = 0, **changes: object) -> Searcher:
    place = space.strata()[stratum]
    request = SearchRequest(
        suggest=lambda source, number: space.suggest(place, source, number),
        seed_parts=(seed, place.label),
        num_trials=NUM_TRIALS,
        cost=lambda settings: 1e9 * number_of(settings["epochs"]),
        **changes,  # type: ignore[arg-type]
    )
    return searcher_of(sampler, request)


def number_of(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return value


def loss(settings: Settings) -> float:
    """Best at epochs = 4, dropout = 0.1, decay = 0.4."""
    decay = number_of(settings.get("decay", 0.1))
    return (number_of(settings["epochs"]) - 4) ** 2 / 9 + number_of(settings["dropout"]) + abs(math.log(decay / 0.4))


def run(search: Searcher, objective: Mapping[str, float] | None = None, num_trials: int = NUM_TRIALS) -> list[Settings]:
    taken: list[Settings] = []
    for number in range(num_trials):
        settings = search.suggest(number)
        if settings is None:
            break
        search.observe(number, settings)
        search.tell(number, loss({"dropout": 0.0, **settings}))
        taken.append(settings)
    return taken


@cache
def taken_by(sampler: str, stratum: int = 0) -> list[Settings]:
    """What a search of its own comes to, done once for all tests that ask; it repeats by its seed."""
    return run(searcher(sampler, stratum=stratum))


def feed(search: Searcher, history: Sequence[tuple[Settings, float | None]], order: Sequence[int]) -> None:
    for number, (settings, _) in enumerate(history):
        search.observe(number, settings)
    for number in order:
        search.tell(number, history[number][1])


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestEverySampler:
    def test_same_seed_and_results_give_the_same_suggestions(self, sampler: str) -> None:
        assert run(searcher(sampler)) == taken_by(sampler)

    def test_suggestions_lie_inside_the_domain_and_have_the_axes_that_apply(self, sampler: str) -> None:
        for stratum in (0, 1):
            for settings in taken_by(sampler, stratum):
                assert tuple(settings) == ORDERED.nuisance(ORDERED.strata()[stratum])
                assert all(ORDERED.axes[path].domain.takes(value) for path, value in settings.items())

    def test_conditions_between_sampled_axes_are_kept(self, sampler: str) -> None:
        if sampler in NEEDS_COMMON_AXES:
            pytest.skip(f"{sampler} is refused for such a space before a study starts")
        taken = run(searcher(sampler, NESTED))
        assert len({settings["layers"] for settings in taken}) == 2
        assert all(("decay" in settings) == (settings["layers"] == 2) for settings in taken)

    def test_searcher_rebuilt_in_the_middle_goes_on_the_same_whatever_order_results_came_in(self, sampler: str) -> None:
        taken = taken_by(sampler)
        history = [(settings, loss(settings)) for settings in taken]
        for middle in range(len(taken)):
            rebuilt = searcher(sampler)
            order = random.Random(middle).sample(range(middle), middle)
            feed(rebuilt, history[:middle], order)
            assert rebuilt.suggest(middle) == taken[middle]

    def test_asking_has_no_effect(self, sampler: str) -> None:
        once, often = searcher(sampler), searcher(sampler)
        for number in range(6):
            for attempt in (0, 1, 9):
                often.suggest(number, attempt)
            settings = once.suggest(number)
            assert often.suggest(number) == settings
            if settings is None:
                break
            for each in (once, often):
                each.observe(number, settings)
                each.tell(number, loss(settings))

    def test_what_runs_and_what_failed_is_no_obstacle(self, sampler: str) -> None:
        search = searcher(sampler)
        number = 0
        while number < 9 and (settings := search.suggest(number)) is not None:
            search.observe(number, settings)
            number += 1
        for each in range(number):
            search.tell(each, None if each % 3 == 0 else 1.0 + each)
        settings = search.suggest(number)
        assert settings is None or set(settings) == {"epochs", "dropout", "decay"}

    def test_later_result_of_a_configuration_replaces_an_earlier_one(self, sampler: str) -> None:
        taken = taken_by(sampler)[:5]
        told_once, told_twice = searcher(sampler), searcher(sampler)
        feed(told_once, [(settings, loss(settings)) for settings in taken], range(len(taken)))
        feed(told_twice, [(settings, 9.0 - loss(settings)) for settings in taken], range(len(taken)))
        for number, settings in enumerate(taken):
            told_twice.tell(number, loss(settings))
        assert told_once.suggest(len(taken)) == told_twice.suggest(len(taken))

    def test_configurations_that_break_a_constraint_are_never_suggested(self, sampler: str) -> None:
        free = taken_by(sampler)
        search = searcher(sampler, allowed=lambda settings: number_of(settings["epochs"]) <= 4)
        bounded = run(search, num_trials=6)
        assert bounded
        assert all(number_of(settings["epochs"]) <= 4 for settings in bounded)
        assert any(number_of(settings["epochs"]) > 4 for settings in free) or sampler == "coordinate_descent"

    def test_nothing_is_suggested_where_nothing_is_allowed(self, sampler: str) -> None:
        if sampler == "coordinate_descent":
            pytest.skip("coordinate_descent refuses a start that is not allowed")
        assert searcher(sampler, allowed=lambda settings: False).suggest(0) is None


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_suggestions_differ_by_number_by_stratum_and_by_seed(sampler: str) -> None:
    space = Space(
        {
            "family": Axis(choice=("a", "b"), role="scientific"),
            "epochs": Axis(integer=(1, 6), role="nuisance"),
            "rate": Axis(log_uniform=(1e-4, 1e-1), role="nuisance"),
        }
    )
    drawn = [
        searcher(sampler, space, seed, stratum).suggest(number)
        for seed in (0, 1)
        for stratum in (0, 1)
        for number in (0, 1, 2)
    ]
    assert len({settings["rate"] for settings in drawn if settings}) == len(drawn)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "coordinate_descent"])
def test_what_an_earlier_study_found_changes_where_a_search_begins(sampler: str) -> None:
    space = Space(
        {"rate": Axis(log_uniform=(1e-4, 1.0), role="nuisance"), "epochs": Axis(integer=(1, 8), role="nuisance")}
    )
    draw = random.Random(0)
    known = []
    for _ in range(40):
        settings = {"rate": 10 ** draw.uniform(-4, 0), "epochs": draw.randint(1, 8)}
        known.append(Known(settings, abs(math.log10(settings["rate"]) + 2) + settings["epochs"] / 100))

    def distances(**changes: object) -> list[float]:
        drawn = [searcher(sampler, space, seed, **changes).suggest(0) or {} for seed in range(8)]
        return [abs(math.log10(number_of(settings["rate"])) + 2) for settings in drawn]

    assert sum(distances(known=known)) < 0.6 * sum(distances()) or max(distances(known=known)) < 0.2
