from __future__ import annotations

from collections.abc import Mapping

import pytest

from crossover.platform.search.searchers import Searcher, make_searcher, seed_of
from crossover.search_spaces import Axis, Scalar, Space
from crossover.trainers.errors import ConfigError

SPACE = Space(
    {
        "rate": Axis(log_uniform=(1e-4, 1e-1), role="nuisance"),
        "depth": Axis(integer=(1, 8), role="nuisance"),
        "name": Axis(choice=("a", "b"), role="nuisance"),
        "decay": Axis(uniform=(0.0, 1.0), role="nuisance", when={"name": "a"}),
    }
)


def searcher(sampler: str, seed: int = 0, label: str = "all", num_trials: int = 12) -> Searcher:
    stratum = SPACE.strata()[0]
    return make_searcher(
        sampler, lambda source, number: SPACE.suggest(stratum, source, number), (seed, label), num_trials
    )


def loss(settings: Mapping[str, Scalar]) -> float:
    """Best at name = a, decay = 0.25, depth = 3."""
    decay = settings.get("decay", 2.0)
    assert isinstance(decay, float) and isinstance(settings["depth"], int)
    return (decay - 0.25) ** 2 + abs(settings["depth"] - 3) / 10


@pytest.fixture(params=["tpe", "random"])
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestEverySampler:
    def test_same_seed_and_results_give_the_same_suggestions(self, sampler: str) -> None:
        one, other = searcher(sampler), searcher(sampler)
        for number in range(12):
            settings = one.suggest(number)
            assert other.suggest(number) == settings
            for each in (one, other):
                each.observe(number, settings)
                each.tell(number, loss(settings))

    def test_searcher_rebuilt_in_the_middle_goes_on_the_same(self, sampler: str) -> None:
        undisturbed = searcher(sampler)
        known: list[Mapping[str, Scalar]] = []
        for number in range(12):
            rebuilt = searcher(sampler)
            for earlier, settings in enumerate(known):
                rebuilt.observe(earlier, settings)
            for earlier in reversed(range(len(known))):  # results come in another order than suggestions
                rebuilt.tell(earlier, loss(known[earlier]))
            settings = undisturbed.suggest(number)
            assert rebuilt.suggest(number) == settings
            undisturbed.observe(number, settings)
            undisturbed.tell(number, loss(settings))
            known.append(settings)

    def test_suggestions_differ_by_number_by_stratum_and_by_seed(self, sampler: str) -> None:
        rates = [
            searcher(sampler, seed, label).suggest(number)["rate"]
            for seed in (0, 1)
            for label in ("a", "b")
            for number in range(3)
        ]
        assert len(set(rates)) == len(rates)

    def test_suggestion_that_is_not_taken_leaves_no_trace(self, sampler: str) -> None:
        one, other = searcher(sampler), searcher(sampler)
        assert one.suggest(0) != one.suggest(0, attempt=1)
        assert one.suggest(0) == other.suggest(0)

    def test_running_and_failed_configurations_are_no_obstacle(self, sampler: str) -> None:
        search = searcher(sampler)
        for number in range(8):
            search.observe(number, search.suggest(number))
        for number in range(0, 8, 2):
            search.tell(number, None)
        for number in range(1, 6, 2):
            search.tell(number, float(number))
        assert set(search.suggest(8)) >= {"rate", "depth", "name"}


def test_tpe_finds_what_random_search_does_not() -> None:
    best = {}
    for sampler in ("tpe", "random"):
        found = []
        for seed in range(5):
            search, losses = searcher(sampler, seed, num_trials=40), []
            for number in range(40):
                settings = search.suggest(number)
                search.observe(number, settings)
                search.tell(number, loss(settings))
                losses.append(loss(settings))
            found.append(sum(losses[20:]) / 20)
        best[sampler] = sum(found) / len(found)
    assert best["tpe"] < 0.6 * best["random"]


def test_unknown_sampler_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"anneal is unknown.*tpe, gp, nsga2, random"):
        searcher("anneal")


def test_seed_is_the_same_everywhere_and_depends_on_every_part() -> None:
    assert seed_of(0, "a", 1) == 683788158
    assert len({seed_of(0, "a", 1), seed_of(0, "a", 2), seed_of(1, "a", 1), seed_of(0, "b", 1)}) == 4
