"""What is wrong with the conditions between axes, and the order in which they are decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from crossover.search_spaces.axis import Axis
from crossover.search_spaces.domains import Choice, Grid, Integer, Scalar, same
from crossover.search_spaces.errors import near

__all__ = ["ordered_paths", "space_mistakes"]


def ordered_paths(axes: Mapping[str, Axis]) -> tuple[str, ...]:
    """Paths such that every axis follows those its conditions name; otherwise as the study writes them.

    Raises:
        graphlib.CycleError: conditions that wait for each other.
    """
    sorter = TopologicalSorter({path: [name for name in axis.when if name in axes] for path, axis in axes.items()})
    sorter.prepare()
    written = list(axes)
    ready: list[str] = []
    order: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=written.index)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return tuple(order)


def space_mistakes(axes: Mapping[str, Axis], fixed: Mapping[str, Scalar]) -> list[str]:
    """Every mistake in the roles and conditions of some axes, each in one sentence."""
    mistakes = []
    for path, axis in axes.items():
        if axis.role == "scientific" and not isinstance(axis.domain, Choice):
            mistakes.append(f"axes.{path}: a scientific axis splits strata and needs choice or grid, got {axis.kind}")
        for name in axis.when:
            mistakes += _condition_mistakes(path, axis, name, axes, fixed)
    try:
        ordered_paths(axes)
    except CycleError as error:
        mistakes.append(f"axes: conditions wait for each other: {' -> '.join(error.args[1])}")
    return mistakes


def _condition_mistakes(
    path: str, axis: Axis, name: str, axes: Mapping[str, Axis], fixed: Mapping[str, Scalar]
) -> Iterator[str]:
    where = f"axes.{path}.when.{name}"
    if name not in axes and name not in fixed:
        yield f"{where}: neither an axis nor a fixed setting{near(name, [*axes, *fixed])}"
        return
    if name in axes:
        other = axes[name]
        if axis.role == "scientific" and other.role == "nuisance":
            yield f"{where}: a scientific axis cannot depend on a nuisance axis: strata come before tuning"
        if isinstance(axis.domain, Grid) and other.role == "nuisance" and not isinstance(other.domain, Grid):
            yield f"{where}: a grid cannot depend on a sampled axis: make one choice and the other choice, or both grid"
        if not isinstance(other.domain, Choice | Integer):
            yield f"{where}: a condition needs an axis with choice, grid or integer, and that one has {other.kind}"
            return
    yield from _values_never_taken(where, axis.allowed(name), name, axes, fixed)


def _values_never_taken(
    where: str, wanted: tuple[Scalar, ...], name: str, axes: Mapping[str, Axis], fixed: Mapping[str, Scalar]
) -> Iterator[str]:
    domain = axes[name].domain if name in axes else Choice(())
    held = [fixed[name]] if name in fixed else []
    known = [str(value) for value in [*(domain.values or ()), *held]]
    listed = ", ".join(known[:8])
    if isinstance(domain, Integer):
        listed = ", ".join([f"{domain.low} to {domain.high}", *map(str, held)])
    for value in wanted:
        if not domain.takes(value) and not any(same(value, other) for other in held):
            yield f"{where}: the value {value} never occurs there (it takes {listed}){near(str(value), known)}"
