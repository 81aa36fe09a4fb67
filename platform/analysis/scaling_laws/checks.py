"""What a law needs of a table before it is fitted: numbers that look fine from too little are worse than none."""

from __future__ import annotations

import numpy as np

from crossover.platform.analysis.scaling_laws.laws import LAWS, Law
from crossover.platform.analysis.scaling_laws.table import ONE_FAMILY, LossTable, LossTableError

__all__ = ["check_rows", "possible_laws"]

_SPARE_ROWS = 2


def check_rows(law: Law, table: LossTable, fixed: frozenset[str] = frozenset()) -> None:
    """Refuse a table that cannot tell the law's parameters apart.

    Args:
        law: to be fitted to each family.
        table: all rows.
        fixed: names of parameters that are given.

    Raises:
        LossTableError: too few rows, one N, one D, no repeats or no U where the law needs them.
    """
    for family in table.families:
        problems = _lacks(law, table.take(table.family == family), fixed)
        if problems:
            where = table.source if family == ONE_FAMILY else f"{table.source}, family {family}"
            raise LossTableError(f"{where}: the {law.name} law is not identified: {'; '.join(problems)}")


def possible_laws(table: LossTable) -> list[Law]:
    """The laws that a table can tell something of, the simplest first."""
    found = []
    for law in sorted(LAWS.values(), key=lambda law: len(law.parameters)):
        try:
            check_rows(law, table)
        except LossTableError:
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
    if {"A", "alpha"} & free and len(np.unique(rows.params)) < 2:
        problems.append(
            f"every row has N = {rows.params[0]:.6g}, so A/N^alpha is one constant with E: give several model sizes"
        )
    if {"B", "beta"} & free and _of_tokens(law) and len(np.unique(rows.tokens)) < 2:
        problems.append(
            f"every row has D = {rows.tokens[0]:.6g}, so B/D^beta is one constant with E: give several token counts, "
            "or fit --law asymptote"
        )
    if law.uses_repeats and not rows.has_unique:
        problems.append("there is no column U (unique tokens): name it with --columns U=its_name")
    elif law.uses_repeats and not (rows.epochs > 1 + 1e-9).any():
        problems.append("no row repeats its data (D <= U everywhere), so nothing is known of repeats: fit chinchilla")
    return problems


def _of_tokens(law: Law) -> bool:
    return any(term.exponent == "beta" for term in law.terms)
