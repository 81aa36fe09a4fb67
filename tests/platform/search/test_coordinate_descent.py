from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from crossover.platform.search.searchers import Searcher, SearchRequest, Settings, searcher_of
from crossover.platform.search.searchers.coordinate import ladder_of
from crossover.search_spaces import Axis, Space
from crossover.trainers.errors import ConfigError

PAPER = Space(
    {
        "learning_rate": Axis(log_uniform=(1e-4, 1.6e-2), role="nuisance"),
        "weight_decay": Axis(choice=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2), role="nuisance"),
        "epochs": Axis(choice=(1, 2, 4, 8, 16, 32), role="nuisance"),
    }
)
START = {"learning_rate": 1e-3, "weight_decay": 0.1, "epochs": 1}


def descent(space: Space = PAPER, **changes: Any) -> Searcher:
    stratum = space.strata()[0]
    request = SearchRequest(
        lambda source, number: space.suggest(stratum, source, number), (0,), 100, **{"start": START, **changes}
    )
    return searcher_of("coordinate_descent", request)


def bowl(settings: Settings) -> float:
    """Best at a rate of 4e-3, a decay of 0.8 and 16 epochs, the paper's optimum at 300M but for the rate."""
    optimum = {"learning_rate": 4e-3, "weight_decay": 0.8, "epochs": 16}
    return sum(math.log(settings[path] / best) ** 2 for path, best in optimum.items())  # type: ignore[operator]


def run(search: Searcher, loss: Callable[[Settings], float | None]) -> list[Settings]:
    taken: list[Settings] = []
    while (settings := search.suggest(len(taken))) is not None:
        search.observe(len(taken), settings)
        search.tell(len(taken), loss(settings))
        taken.append(settings)
        assert len(taken) < 200
    return taken


def test_ends_at_the_optimum_where_every_neighbour_was_tried_and_none_is_better() -> None:
    taken = run(descent(), bowl)
    best = min(taken, key=bowl)
    assert best == {"learning_rate": pytest.approx(4e-3), "weight_decay": 0.8, "epochs": 16}
    tried = {(round(math.log2(s["learning_rate"] / 1e-3)), s["weight_decay"], s["epochs"]) for s in taken}  # type: ignore[operator]
    for neighbour in [(1, 0.8, 16), (3, 0.8, 16), (2, 0.4, 16), (2, 1.6, 16), (2, 0.8, 8), (2, 0.8, 32)]:
        assert neighbour in tried
    assert len(taken) < 25  # of 8 x 6 x 6 configurations


def test_no_configuration_is_tried_twice() -> None:
    taken = [tuple(settings.items()) for settings in run(descent(), bowl)]
    assert len(set(taken)) == len(taken)


def test_starts_where_it_is_told_and_tries_one_axis_at_a_time() -> None:
    taken = run(descent(), bowl)
    assert taken[0] == START
    for earlier, settings in itertools.pairwise(taken[:3]):
        assert settings["weight_decay"] == earlier["weight_decay"]
    assert [settings["learning_rate"] for settings in taken[1:3]] == [pytest.approx(2e-3), pytest.approx(5e-4)]


def test_equal_is_not_better_so_a_plateau_ends_it() -> None:
    assert len(run(descent(), lambda settings: 1.0)) == 1 + 2 + 1 + 1  # decay and epochs begin at their lower end


def test_failed_neighbour_is_worse_and_failed_start_is_left() -> None:
    def loss(settings: Settings) -> float | None:
        return None if settings["learning_rate"] == 1e-3 else bowl(settings)

    best = min(run(descent(), loss), key=bowl)
    assert best["epochs"] == 16


def test_waits_for_both_neighbours_and_suggests_nothing_meanwhile() -> None:
    search = descent()
    search.observe(0, search.suggest(0) or {})
    assert search.suggest(1) is None
    search.tell(0, bowl(START))
    for number in (1, 2):
        settings = search.suggest(number)
        assert settings is not None
        search.observe(number, settings)
    assert search.suggest(3) is None
    search.tell(1, 0.5)
    assert search.suggest(3) is None
    search.tell(2, 0.6)
    assert search.suggest(3) is not None


def test_neighbours_that_break_a_constraint_are_not_stepped_on() -> None:
    taken = run(descent(allowed=lambda settings: settings["epochs"] <= 8), bowl)
    assert max(settings["epochs"] for settings in taken) == 8  # type: ignore[type-var]


def test_axis_that_appears_on_the_way_is_descended_too() -> None:
    space = Space(
        {
            "layers": Axis(choice=(1, 2), role="nuisance"),
            "decay": Axis(choice=(1, 2, 4, 8), role="nuisance", when={"layers": 2}),
        }
    )
    taken = run(descent(space, start={"layers": 1}), lambda s: 5.0 if s["layers"] == 1 else abs(s["decay"] - 1) / 10)  # type: ignore[operator]
    assert {"layers": 2, "decay": 1} in taken


def test_start_that_breaks_a_constraint_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"epochs = 1.*breaks search.constraints"):
        descent(allowed=lambda settings: settings["epochs"] > 4)


@pytest.mark.parametrize(
    ("space", "start", "says"),
    [
        (
            {"name": Axis(choice=("adamw", "muon"), role="nuisance")},
            {},
            r"axes\.name.*without an order \(adamw, muon\)",
        ),
        ({"tie": Axis(choice=(True, False), role="nuisance")}, {}, r"axes\.tie.*without an order"),
        ({"x": Axis(choice=(1, 2), role="nuisance")}, {"x": 3}, r"search\.start\.x = 3.*takes 1, 2"),
        ({"x": Axis(uniform=(0.0, 1.0), role="nuisance")}, {"x": 2.0}, r"search\.start\.x = 2\.0.*0\.0 to 1\.0"),
        ({"x": Axis(uniform=(0.0, 1.0), role="nuisance")}, {"x": "a"}, r"search\.start\.x = a"),
    ],
)
def test_space_that_cannot_be_descended_is_an_error_with_its_remedy(
    space: dict[str, Axis], start: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        descent(Space(space), start=start)


@pytest.mark.parametrize(
    ("distribution", "start", "factor", "values"),
    [
        (FloatDistribution(1e-3, 1e-1, log=True), 1e-2, 3, [1e-2 / 9, 1e-2 / 3, 1e-2, 3e-2, 9e-2]),
        (FloatDistribution(1, 8, log=True), 1, 2, [1, 2, 4, 8]),
        (FloatDistribution(0, 1), 0.25, 2, [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]),
        (IntDistribution(1, 20), 4, 2, [1, 2, 4, 8, 16]),
        (IntDistribution(1, 5), 2, 1.2, [1, 2, 3, 4, 5]),
        (IntDistribution(-2, 3), 0, 2, [-2, -1, 0, 1, 2]),
        (CategoricalDistribution((0.3, 0.0, 0.1)), 0.0, 2, [0.0, 0.1, 0.3]),
    ],
)
def test_ladders(distribution: Any, start: float, factor: float, values: list[float]) -> None:
    ladder = ladder_of("x", distribution, start, factor)
    assert list(ladder.values) == pytest.approx(values)
    assert ladder.values[ladder.start] == start


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [
        (FloatDistribution(1e-4, 1e-2, log=True), 1e-4, 1e-2),
        (FloatDistribution(-1, 1), -1, 1),
        (IntDistribution(1, 100), 1, 100),
        (CategoricalDistribution((1, 2, 3)), 1, 3),
    ],
)
def test_without_a_start_it_begins_in_the_middle_and_stays_inside(distribution: Any, low: float, high: float) -> None:
    ladder = ladder_of("x", distribution, None, 2)
    assert 0 < ladder.start < len(ladder.values) - 1
    assert all(low <= value <= high for value in ladder.values)  # type: ignore[operator]
    assert list(ladder.values) == sorted(set(ladder.values))  # type: ignore[type-var]
