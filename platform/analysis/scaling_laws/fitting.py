"""`fit_law`: a table in, a law with its uncertainty out; the one function behind `crossover fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.bootstrap import bootstrap, cluster_weights
from crossover.platform.analysis.scaling_laws.checks import check_rows, possible_laws
from crossover.platform.analysis.scaling_laws.flags import flags_of
from crossover.platform.analysis.scaling_laws.laws import LAWS, Law
from crossover.platform.analysis.scaling_laws.objectives import OBJECTIVES, Objective
from crossover.platform.analysis.scaling_laws.parameters import parameter_fits
from crossover.platform.analysis.scaling_laws.predicting import Noise, Point, held_out_largest, predict
from crossover.platform.analysis.scaling_laws.profiles import Profile, profile, rise_allowed
from crossover.platform.analysis.scaling_laws.results import LawFit
from crossover.platform.analysis.scaling_laws.solving import Solution, solve
from crossover.platform.analysis.scaling_laws.table import LossTable, LossTableError
from crossover.platform.analysis.scaling_laws.validation import Candidate, choose, cross_validated
from crossover.search_spaces import near

__all__ = ["SHARINGS", "FitSettings", "fit_law"]

Floats = NDArray[np.float64]

SHARINGS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "E": frozenset({"E"}),
    "exponents": frozenset({"alpha", "beta"}),
    "E+exponents": frozenset({"E", "alpha", "beta"}),
}
_PROFILED = frozenset({"R_D*", "R_N*"})
_MIN_DRAWS = 20


@dataclass(frozen=True)
class FitSettings:
    """How a law is fitted.

    Args:
        law: a name, or auto: by cross-validation.
        objective: huber, lad, squared or asymmetric.
        share: what families have in common: none, E, exponents, E+exponents, or auto: by cross-validation.
        fixed: reported values of parameters that are given, such as those of a published base law.
        num_draws: bootstrap draws.
        level: of the parameters' intervals.
        seed: of draws and folds.
        held_out: predict the largest runs from the others.
        profiles: profile R_D* and R_N*; without, their intervals are of the bootstrap.
        predict: runs to be predicted.
    """

    law: str = "auto"
    objective: str = "huber"
    share: str = "auto"
    fixed: Mapping[str, float] = field(default_factory=dict)
    num_draws: int = 500
    level: float = 0.95
    seed: int = 0
    held_out: bool = True
    profiles: bool = True
    predict: Sequence[Point] = ()


def fit_law(table: LossTable, settings: FitSettings | None = None) -> LawFit:
    """Fit a law to a table.

    Laws that only fall are fitted to the best loss so far of every curve that rises, and a flag says so.

    Args:
        table: losses by size and tokens.
        settings: what differs from the defaults.

    Raises:
        LossTableError: the table cannot tell the law's parameters apart, or a setting is wrong.
    """
    settings = settings or FitSettings()
    objective = _checked(settings)
    laws = _laws(table, settings)
    solution, candidates = _chosen(laws, table, objective, settings)
    law = solution.problem.joint.law
    rows = rows_for(law, table)
    if rows is not table:
        solution = _solved(law, rows, objective, solution.problem.joint.shared, settings)
    generator = np.random.default_rng([settings.seed, 0])
    weights = cluster_weights(rows.clusters, rows.family, settings.num_draws, generator)
    draws = bootstrap(solution.problem, solution.theta_P, weights, solution.free_P)
    profiles = _profiles(solution, rows, settings.level) if settings.profiles else ()
    parameters = parameter_fits(solution, draws, profiles, settings.level)
    held_out = (
        held_out_largest(solution, rows, num_draws=min(200, settings.num_draws), seed=settings.seed)
        if settings.held_out
        else None
    )
    points = [*settings.predict, *_largest_runs(rows)]
    _refuse_unknown_families(points, rows)
    return LawFit(
        law=law.name,
        formula=law.formula,
        families=rows.families,
        shared=tuple(p.name for p in law.parameters if p.name in solution.problem.joint.shared),
        parameters=parameters,
        objective_name=objective.name,
        objective=solution.value,
        num_rows=rows.num_rows,
        num_runs=len(np.unique(rows.clusters)),
        gradient_norm=solution.gradient_norm,
        num_starts=solution.num_starts,
        num_agree=solution.num_agree,
        converged=solution.converged,
        level=settings.level,
        candidates=candidates,
        flags=flags_of(law, table, solution, parameters, profiles, draws, held_out),
        profiles=profiles,
        predictions=predict(
            solution.problem,
            solution.theta_P,
            draws,
            Noise.of(solution, rows, 1.0 if held_out is None else held_out.scale),
            points,
        ),
        held_out=held_out,
        source=table.source,
        table=rows,
        solution=solution,
        draws=draws,
    )


def rows_for(law: Law, table: LossTable) -> LossTable:
    """The rows that a law can follow: all of them, best so far where it only falls, each size's best for one of N."""
    if law.rises:
        return table
    falling = table.best_so_far()
    return falling if any(term.exponent == "beta" for term in law.terms) else falling.best_of_each_size()


def _checked(settings: FitSettings) -> Objective:
    for name, value, known in (
        ("law", settings.law, [*LAWS, "auto"]),
        ("objective", settings.objective, list(OBJECTIVES)),
        ("share", settings.share, [*SHARINGS, "auto"]),
    ):
        if value not in known:
            raise LossTableError(f"--{name} {value} is none of {', '.join(known)}{near(value, known)}")
    if settings.num_draws < _MIN_DRAWS:
        raise LossTableError(f"--draws {settings.num_draws} gives no interval: set {_MIN_DRAWS} or more")
    known = list(dict.fromkeys(p.name for law in LAWS.values() for p in law.parameters))
    for name, given in settings.fixed.items():
        if name not in known:
            raise LossTableError(f"--fix {name}: no law has it{near(name, known)}; there are {', '.join(known)}")
        if not np.isfinite(given) or given <= 0:
            raise LossTableError(f"--fix {name}={given}: must be a finite number above 0")
    return OBJECTIVES[settings.objective]


def _laws(table: LossTable, settings: FitSettings) -> list[Law]:
    if settings.law != "auto":
        law = LAWS[settings.law]
        foreign = settings.fixed.keys() - {parameter.name for parameter in law.parameters}
        if foreign:
            raise LossTableError(f"the {law.name} law has no {', '.join(sorted(foreign))}: fix only what it has")
        check_rows(law, rows_for(law, table), frozenset(settings.fixed))
        return [law]
    found = [law for law in possible_laws(table) if settings.fixed.keys() <= {p.name for p in law.parameters}]
    if not found:
        check_rows(LAWS["chinchilla"], table, frozenset(settings.fixed))
    return [law for law in found if len(law.terms) > 1] or found


def _chosen(
    laws: Sequence[Law], table: LossTable, objective: Objective, settings: FitSettings
) -> tuple[Solution, tuple[Candidate, ...]]:
    """The law, then what its families share, each by cross-validation where there is a choice."""
    first = [_solved(law, table, objective, SHARINGS["none"], settings) for law in laws]
    solution, candidates = _cross_validated(first, table, settings)
    law, shared = solution.problem.joint.law, SHARINGS.get(settings.share)
    if len(table.families) == 1:
        return solution, candidates
    if shared is not None:
        return _solved(law, table, objective, shared, settings), candidates
    names = {parameter.name for parameter in law.parameters}
    sharings = dict.fromkeys(frozenset(shared & names) for shared in SHARINGS.values())
    joint = [_solved(law, table, objective, shared, settings) for shared in sharings]
    solution, compared = _cross_validated(joint, table, settings)
    return solution, (*candidates, *compared)


def _cross_validated(
    solutions: Sequence[Solution], table: LossTable, settings: FitSettings
) -> tuple[Solution, tuple[Candidate, ...]]:
    if len(solutions) == 1:
        return solutions[0], ()
    scores = [cross_validated(s, table.clusters, table.family, settings.seed) for s in solutions]
    place, candidates = choose(solutions, scores, table.clusters)
    return solutions[place], candidates


def _solved(
    law: Law, table: LossTable, objective: Objective, shared: frozenset[str], settings: FitSettings
) -> Solution:
    names = {parameter.name for parameter in law.parameters}
    return solve(law, table, objective, shared=shared & names, fixed=settings.fixed)


def _profiles(solution: Solution, table: LossTable, level: float) -> tuple[Profile, ...]:
    """Of R_D* and R_N*, whose intervals a bootstrap understates on a ridge."""
    columns = enumerate(solution.problem.joint.columns)
    places = [i for i, (parameter, _) in columns if parameter.name in _PROFILED and solution.free_P[i]]
    if not places:
        return ()
    allowed = rise_allowed(solution, table.clusters, level)
    return tuple(profile(solution, place, allowed) for place in places)


def _largest_runs(table: LossTable) -> list[Point]:
    """The run with the most FLOPs of each family, which is what one looks at first."""
    found = []
    for family in table.families:
        rows = np.flatnonzero(table.family == family)
        i = int(rows[np.argmax(table.flops[rows])])
        found.append(
            Point(family, float(table.params[i]), float(table.tokens[i]), float(table.unique[i]), float(table.loss[i]))
        )
    return found


def _refuse_unknown_families(points: Sequence[Point], table: LossTable) -> None:
    for point in points:
        if point.family not in table.families:
            raise LossTableError(
                f"--predict: {point.family} is no family of {table.source}{near(point.family, table.families)}; it has "
                f"{', '.join(table.families)}"
            )
