"""What a law needs of a table before it is fitted: numbers that look fine from too little are worse than none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.laws import LAWS, Law
from crossover.platform.analysis.scaling_laws.table import ONE_FAMILY, LossTable, NotIdentifiedError

__all__ = ["check_rows", "possible_laws"]

_SPARE_ROWS = 2
_OF_SIZES, _OF_TOKENS = ("E", "A", "alpha"), ("E", "B", "beta")


def check_rows(law: Law, table: LossTable, fixed: frozenset[str] = frozenset()) -> None:
    """Refuse a table that cannot tell the law's parameters apart.

    Args:
        law: to be fitted to each family.
        table: all rows.
        fixed: names of parameters that are given.

    Raises:
        NotIdentifiedError: too few rows, one N, one D, no repeats or no U where the law needs them.
    """
    for family in table.families:
        problems = _lacks(law, table.take(table.family == family), fixed)
        if problems:
            where = table.source if family == ONE_FAMILY else f"{table.source}, family {family}"
            raise NotIdentifiedError(f"{where}: the {law.name} law is not identified: {'; '.join(problems)}")


def possible_laws(table: LossTable) -> list[Law]:
    """The laws that a table can tell something of, the simplest first."""
    found = []
    for law in sorted(LAWS.values(), key=lambda law: len(law.parameters)):
        try:
            check_rows(law, table)
        except NotIdentifiedError:
            continue
        found.append(law)
    return found


def _lacks(law: Law, rows: LossTable, fixed: frozenset[str]) -> list[str]:
    free = {parameter.name for parameter in law.parameters} - fixed
    problems = []
    num_distinct = len(np.unique(np.stack([rows.params, rows.tokens, rows.unique]), axis=1).T)
    needed = len(free) + _SPARE_ROWS
    if num_distinct < needed:
        problems.append(
            f"{num_distinct} distinct rows cannot determine {len(free)} parameters with an error: give {needed} or more"
        )
    if {"A", "alpha"} & free:
        problems += _too_few(rows.params, "N", "E, A and alpha", "model sizes", sum(n in free for n in _OF_SIZES))
    if {"B", "beta"} & free and _of_tokens(law):
        problems += _too_few(rows.tokens, "D", "E, B and beta", "token counts", sum(n in free for n in _OF_TOKENS))
    if law.uses_repeats and not rows.has_unique:
        problems.append("there is no column U (unique tokens): name it with --columns U=its_name")
    elif law.uses_repeats and not (rows.epochs > 1 + 1e-9).any():
        problems.append("no row repeats its data (D <= U everywhere), so nothing is known of repeats: fit chinchilla")
    return problems


def _too_few(values: NDArray[np.float64], name: str, apart: str, what: str, num_free: int) -> list[str]:
    """Every distinct value gives one constant, and there must be as many as unknowns."""
    distinct = np.unique(values)
    if len(distinct) == 1:
        return [f"every row has {name} = {distinct[0]:.6g}, which cannot tell {apart} apart: give several {what}"]
    if len(distinct) < num_free:
        return [f"{len(distinct)} {what} cannot tell {apart} apart: give {num_free} or more"]
    return []


def _of_tokens(law: Law) -> bool:
    return any(term.exponent == "beta" for term in law.terms)
