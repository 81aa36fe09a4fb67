"""What figures are drawn from: a study's tables and answer, and what is computed from them once for several figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crossover.platform.analysis.answers import Answer, answer
from crossover.platform.analysis.curves import DrawnPair, drawn_pairs
from crossover.platform.analysis.tables import StudyTables, load_study

__all__ = ["Findings"]


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
    def chosen(self) -> set[str]:
        """Trials of the configurations that stand for their strata."""
        bests = [best for pair in self.answer.pairs for best in (pair.baseline, pair.challenger) if best]
        return {trial_id for best in bests for trial_id in best.trial_ids}
