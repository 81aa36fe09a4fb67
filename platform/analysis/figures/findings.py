"""What figures are drawn from: a study's tables and answer, and what is computed from them once for several figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from crossover.platform.analysis.answers import Answer, answer
from crossover.platform.analysis.curves import DrawnPair, drawn_pairs
from crossover.platform.analysis.recommendation import Plan, plan_of_study
from crossover.platform.analysis.scaling_laws import (
    FitSettings,
    LawFit,
    LossTable,
    LossTableError,
    fit_law,
    losses_of_study,
)
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.trainers.errors import CrossoverError

__all__ = ["Findings"]

_MIN_SIZES = 3
_MAX_ROWS = 400
_SETTINGS = FitSettings(num_draws=200)


@dataclass(frozen=True)
class Findings:
    """A study and its answer."""

    tables: StudyTables
    answer: Answer

    @classmethod
    def of(cls, study: str | Path | StudyTables | Findings) -> Findings:
        """From a study's folder, its tables, or what is one already."""
        if isinstance(study, Findings):
            return study
        tables = study if isinstance(study, StudyTables) else load_study(study)
        return cls(tables, answer(tables))

    @cached_property
    def pairs(self) -> list[DrawnPair]:
        """Curves, a pair of strata each."""
        return drawn_pairs(self.tables, self.answer)

    @cached_property
    def law(self) -> LawFit | str:
        """The law of the study's own rows, or why there is none."""
        try:
            table = losses_of_study(self.tables)
            return reason if (reason := _too_few_sizes(table)) else fit_law(_thinned(table), _SETTINGS)
        except LossTableError as error:
            return f"A scaling law is not identified: {error}"

    @cached_property
    def plan(self) -> Plan | str:
        """What the study recommends for its own unique tokens and compute, by its law if it has one; or why nothing."""
        try:
            return plan_of_study(self.tables, law=self.law)
        except CrossoverError as error:
            return f"Nothing can be recommended: {error}"

    @cached_property
    def chosen(self) -> set[str]:
        """Trials of the configurations that stand for their strata."""
        bests = [best for pair in self.answer.pairs for best in (pair.baseline, pair.challenger) if best]
        return {trial_id for best in bests for trial_id in best.trial_ids}


def _too_few_sizes(table: LossTable) -> str:
    sizes = {family: len(np.unique(table.params[table.family == family])) for family in table.families}
    fewest = min(sizes, key=lambda family: sizes[family])
    if sizes[fewest] >= _MIN_SIZES:
        return ""
    have = "1 size" if sizes[fewest] == 1 else f"{sizes[fewest]} sizes"
    return (
        f"A scaling law is not identified: its exponent of size takes {_MIN_SIZES} sizes, and {fewest} has "
        f"{have}. Add sizes to the axis model.size, or let `crossover fit` take its base from a published law (--base)."
    )


def _thinned(table: LossTable) -> LossTable:
    """So many rows, evenly along each curve, that a fit takes seconds: those of one run say much the same."""
    step = -(-table.num_rows // _MAX_ROWS)
    curves = table.curves() or [np.arange(table.num_rows)]
    return table if step == 1 else table.take(np.sort(np.concatenate([rows[::-1][::step] for rows in curves])))
