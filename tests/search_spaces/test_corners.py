"""A check of a space tries every value of every axis, also behind conditions."""

from __future__ import annotations

from crossover.search_spaces import Axis, Scalar, Space, corners, pair_corners

SPACE = Space(
    {
        "schedule.name": Axis(choice=["constant", "cosine", "wsd"], role="nuisance"),
        "schedule.decay_fraction": Axis(uniform=[0.1, 0.5], role="nuisance", when={"schedule.name": "wsd"}),
        "deep": Axis(choice=[1, 2], role="nuisance", when={"schedule.decay": 3}),
        "schedule.decay": Axis(integer=[0, 5], role="nuisance", when={"schedule.name": ["cosine", "wsd"]}),
        "batch": Axis(grid=[8, 16], role="nuisance"),
    }
)


def pairs_of(settings: dict[str, Scalar]) -> set[tuple[str, Scalar]]:
    return set(settings.items())


def test_every_value_and_both_ends_stand_in_some_corner() -> None:
    (stratum,) = SPACE.strata()
    seen = set().union(*(pairs_of(settings) for settings in corners(SPACE, stratum)))
    wanted = {(path, value) for path, axis in SPACE.axes.items() for value in axis.domain.corners}
    assert wanted <= seen


def test_corners_hold_only_axes_whose_conditions_are_true() -> None:
    (stratum,) = SPACE.strata()
    for settings in [*corners(SPACE, stratum), *pair_corners(SPACE, stratum)]:
        assert all(SPACE.axes[path].holds(settings) for path in settings)


def test_pairs_of_independent_axes_all_stand_together() -> None:
    (stratum,) = SPACE.strata()
    seen = [pairs_of(settings) for settings in pair_corners(SPACE, stratum)]
    for name in ("constant", "cosine", "wsd"):
        for batch in (8, 16):
            assert any({("schedule.name", name), ("batch", batch)} <= settings for settings in seen)


def test_conditions_on_an_integer_of_any_range_are_reached() -> None:
    behind = Axis(choice=[1, 2], role="nuisance", when={"steps": 7_000})
    space = Space({"steps": Axis(integer=[1, 10_000], role="nuisance"), "behind": behind}, {"steps": 20_000})
    (stratum,) = space.strata()
    assert space.nuisance(stratum) == ("steps", "behind")
    assert {"steps": 7_000, "behind": 2} in list(corners(space, stratum))
