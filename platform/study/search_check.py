"""Whether the sampler can handle the space, and whether anything is left of it under the constraints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from crossover.platform.study.model import Study
from crossover.search_spaces import Axis, Choice, Integer, Stratum, corners
from crossover.trainers.errors import ConfigError

__all__ = ["drawing_mistakes", "sampler_mistakes"]

_COMMON_AXES_ONLY = ("gp", "nsga2")
_MAX_STRATA_NAMED = 3
_MAX_COUNTED = 2_000  # a second
_LEARNING = ("tpe", "gp", "nsga2", "coordinate_descent")


def sampler_mistakes(study: Study) -> Iterator[str]:
    """What the axes and the settings of `search` say that the sampler cannot do."""
    search = study.search
    if search.sampler != "coordinate_descent":
        for name in ("start", "factor"):
            if name in search.model_fields_set:
                yield f"search.{name} is for sampler: coordinate_descent, so it has no effect: remove it"
    if search.sampler == "nsga2" and search.scheduler != "none":
        yield (
            "search.sampler = nsga2 keeps what is cheap beside what is good, and search.scheduler = "
            f"{search.scheduler} stops all but the good: set scheduler: none, or sampler: tpe"
        )
    if search.sampler == "coordinate_descent" and search.scheduler != "none":
        yield (
            "search.sampler = coordinate_descent compares each neighbour's whole run with where it stands, and "
            f"search.scheduler = {search.scheduler} would stop neighbours before: set scheduler: none"
        )
    if search.warm_start is not None and search.sampler not in _LEARNING:
        yield f"search.warm_start: sampler {search.sampler} does not learn, so it has no effect: remove it, or set tpe"
    for path in search.start:
        if path not in study.axes or study.axes[path].role == "scientific":
            yield f"search.start.{path}: no nuisance axis: name one of {', '.join(_nuisance(study))}"
    yield from dict.fromkeys(mistake for path in _nuisance(study) for mistake in _axis_mistakes(study, path))


def drawing_mistakes(study: Study) -> list[str]:
    """Strata from which nothing can be drawn; every configuration can be built by now."""
    if study.search.sampler in ("tpe", "gp", "random") and not study.search.constraints.given():
        return []
    found = (mistake for stratum in study.strata() for mistake in _stratum_mistakes(study, stratum))
    return list(islice(found, _MAX_STRATA_NAMED))  # to find that nothing is left takes seconds a stratum


def _nuisance(study: Study) -> list[str]:
    return [path for path, axis in study.axes.items() if axis.role == "nuisance"]


def _axis_mistakes(study: Study, path: str) -> Iterator[str]:
    axis, sampler = study.axes[path], study.search.sampler
    if sampler == "grid" and not (isinstance(axis.domain, Choice) or _is_listed(axis)):
        yield (
            f"search.sampler = grid visits values that are listed, and axes.{path} is {axis.kind}: give it choice, or "
            "set the sampler to tpe"
        )
    if sampler == "coordinate_descent" and isinstance(axis.domain, Choice):
        odd = [value for value in axis.domain.values if isinstance(value, bool) or not isinstance(value, int | float)]
        if odd:
            yield (
                f"search.sampler = coordinate_descent goes up and down an axis, and axes.{path} has values without an "
                f"order ({', '.join(map(str, odd[:4]))}): make it scientific, fix it, or set the sampler to tpe"
            )
    if sampler in _COMMON_AXES_ONLY:
        for name in axis.when:
            if name in study.axes and study.axes[name].role == "nuisance":
                yield (
                    f"search.sampler = {sampler} learns about axes that all configurations of a stratum have, and "
                    f"axes.{path} depends on the nuisance axis {name}: make that scientific, or set the sampler to tpe"
                )


def _is_listed(axis: Axis) -> bool:
    return isinstance(axis.domain, Integer) and axis.domain.values is not None


def _stratum_mistakes(study: Study, stratum: Stratum) -> Iterator[str]:
    from crossover.platform.search.study_searcher import study_searcher  # loads Optuna: 0.3 s

    try:
        draw = study_searcher(study, stratum).suggest(0)
    except ConfigError as error:
        yield f"{error} (in stratum {stratum.label})"
        return
    if draw is None:
        yield f"search.constraints: no configuration of stratum {stratum.label} keeps them: {_nearest(study, stratum)}"
    elif (left := _few_left(study, stratum)) is not None:
        yield (
            f"search.trials = {study.search.trials}, but search.constraints leave {left} configurations of stratum "
            f"{stratum.label}: lower it, or widen the bounds"
        )
    elif study.search.sampler == "nsga2" and study.space.is_sampled(stratum):
        costs = {study.cost(stratum, settings).train_flops for settings in corners(study.space, stratum)}
        if len(costs) == 1:
            yield (
                f"search.sampler = nsga2 weighs the loss against FLOPs, and in stratum {stratum.label} every "
                "configuration has the same: give it an axis such as model.size or schedule.epochs, or set tpe"
            )


def _few_left(study: Study, stratum: Stratum) -> int | None:
    """Configurations that are left of a stratum, where they are listed and fewer than are asked for."""
    points = study.space.points(stratum) if study.search.constraints.given() else None
    if points is None or len(points) > _MAX_COUNTED or not study.space.is_sampled(stratum):
        return None
    left = sum(study.allows(stratum, point) for point in points)
    return left if left < study.num_configurations(stratum) else None


def _nearest(study: Study, stratum: Stratum) -> str:
    """The range of each bounded cost over the ends of the axes."""
    costs = [study.cost(stratum, settings) for settings in corners(study.space, stratum)]
    ranges = []
    for name, bound in study.search.constraints.given().items():
        values = [getattr(cost, name) for cost in costs]
        ranges.append(f"{name} {bound}, and it has {min(values):.4g} to {max(values):.4g}")
    return f"{'; '.join(ranges)}. Widen the bounds or change the axes"
