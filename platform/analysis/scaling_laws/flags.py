"""What limits a fit, in words a reader can act on; each flag is `code: sentence`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import Law
from crossover.platform.analysis.scaling_laws.profiles import Profile
from crossover.platform.analysis.scaling_laws.results import HeldOut, ParameterFit
from crossover.platform.analysis.scaling_laws.solving import Solution
from crossover.platform.analysis.scaling_laws.table import LossTable

__all__ = ["flags_of"]

Floats = NDArray[np.float64]
_ALONG = 0.9  # correlation from which two parameters make up for each other


def flags_of(
    law: Law,
    table: LossTable,
    solution: Solution,
    parameters: Sequence[ParameterFit],
    profiles: Sequence[Profile],
    draws_BP: Floats,
    held_out: HeldOut | None,
) -> tuple[str, ...]:
    """Every flag of a fit.

    Args:
        table: as given, before the best so far was taken.
    """
    return (
        *_rising(law, table),
        *_ignored(law, table),
        *_not_identified(solution, parameters, profiles, draws_BP),
        *_bounds(parameters),
        *_search(solution),
        *_held_out(held_out),
    )


def _rising(law: Law, table: LossTable) -> Iterator[str]:
    rising, curves = table.rising_curves(), table.curves()
    if rising and not law.rises:
        yield (
            f"rising: {len(rising)} of {len(curves)} curves rise by more than 1 % over their best; the {law.name} law "
            "only falls, so it is fitted to the best loss so far of these curves. The rising law follows them (--law "
            "rising)"
        )
    apart = table.rising_across_runs()
    if apart and not law.rises:
        yield (
            f"rising: at equal N and U, loss rises with more epochs in {apart} sets of separate runs; the {law.name} "
            "law only falls and is fitted to all of them. The rising law follows them (--law rising)"
        )


def _ignored(law: Law, table: LossTable) -> Iterator[str]:
    uses_tokens = any(term.exponent == "beta" for term in law.terms)
    if not uses_tokens and np.ptp(np.log(table.tokens)) > 0:
        yield "best-of-size: the asymptote law knows only N, so it is fitted to the best loss of each N (and U)"
    if uses_tokens and not law.uses_repeats and table.has_unique and (table.epochs > 1.5).any():
        yield f"repeats: rows repeat their data up to {table.epochs.max():.3g} times, and the {law.name} law ignores it"


def _not_identified(
    solution: Solution, parameters: Sequence[ParameterFit], profiles: Sequence[Profile], draws_BP: Floats
) -> Iterator[str]:
    by_name = {found.name: found for found in profiles}
    for place, parameter in enumerate(parameters):
        if parameter.identified:
            continue
        flat = (
            _along_profile(solution, by_name[parameter.name])
            if parameter.name in by_name
            else _along_draws(solution, draws_BP, place)
        )
        yield f"not-identified: {parameter.name} is not identified: {parameter.reason}{flat}"


def _along_profile(solution: Solution, found: Profile) -> str:
    """How the parameter that moves most makes up for the one that was fixed."""
    inside = np.flatnonzero(found.objective_G <= found.objective_G.min() + found.allowed)
    ends = found.theta_GP[[inside[0], inside[-1]]]
    moved = np.where(solution.free_P, np.abs(ends[1] - ends[0]), 0.0)
    moved[solution.problem.joint.names.index(found.name)] = 0.0
    values = solution.problem.joint.natural(ends)
    rise = 100 * found.allowed / solution.value
    words = f". Flat direction: from {found.values_G[inside[0]]:.3g} to {found.values_G[inside[-1]]:.3g}"
    if moved.max() > 0:
        other = int(np.argmax(moved))
        name = solution.problem.joint.names[other]
        words += f", while {name} goes from {values[0, other]:.3g} to {values[1, other]:.3g},"
    return f"{words} the objective rises by less than {rise:.2g} %"


def _along_draws(solution: Solution, draws_BP: Floats, place: int) -> str:
    """The parameter that moves most closely with it over the draws."""
    spread = draws_BP.std(axis=0)
    free = np.flatnonzero((spread > 0) & solution.free_P)
    if place not in free or len(free) < 2:
        return ""
    centred = (draws_BP[:, free] - draws_BP[:, free].mean(axis=0)) / spread[free]
    own = int(np.flatnonzero(free == place)[0])
    together = centred.T @ centred[:, own] / len(draws_BP)
    together[own] = 0.0
    other = int(np.argmax(np.abs(together)))
    if abs(together[other]) < _ALONG:
        return ""
    name = solution.problem.joint.names[int(free[other])]
    way = "rises" if together[other] > 0 else "falls"
    return f". Flat direction: {name} {way} with it and makes up for it (correlation {together[other]:+.3f})"


def _bounds(parameters: Sequence[ParameterFit]) -> Iterator[str]:
    for parameter in parameters:
        if parameter.at_bound:
            yield f"at-bound: {parameter.name} = {parameter.value:.4g} lies at a bound of the search"


def _search(solution: Solution) -> Iterator[str]:
    if not solution.converged:
        yield f"not-converged: a gradient of {solution.gradient_norm:.2g} is left at the best point found"
    if solution.num_agree == 1 < solution.num_starts:
        yield f"one-start: only 1 of {solution.num_starts} starts ended at this optimum"


def _held_out(held_out: HeldOut | None) -> Iterator[str]:
    if held_out is not None and held_out.scale > 1.5:
        yield (
            f"extrapolation: the largest runs miss a fit to the others by {held_out.scale:.2g} times what its own "
            "interval says, so intervals of predictions are widened by that"
        )
