"""The median rule (Vizier, 2017), on a set: at a rung whoever is better than the median goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from crossover.platform.search.rungs import rung_epochs
from crossover.platform.search.schedulers.base import register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort, Configuration, Key
from crossover.platform.search.schedulers.halving import Group, SetScheduler

__all__ = ["MedianScheduler"]


@register_scheduler("median")
class MedianScheduler(SetScheduler):
    """Whoever is not worse than the median of the cohort goes on; the ended count with their best value."""

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """Every rung of the grid, where there is anybody to compare with."""
        if cohort.size < 2:
            return ()
        return rung_epochs(cohort.horizon, self.settings.eta, self.settings.first_epoch)

    def choose(self, group: Group, rung: int, waiting: Sequence[Configuration]) -> Mapping[Key, str]:
        """Those that are not worse than the median; a rung that was decided stands."""
        cut = self._cut(group, rung)
        where = f"rung {rung + 1} (epoch {group.rungs[rung]:.3g})"
        return {
            c.key: f"{where}: best so far {c.value_at(rung):.4f} bits/byte, median {cut:.4f}"
            for c in waiting
            if c.value_at(rung) <= cut and any(member.is_undecided for member in c.paused)
        }

    def refusal(self, group: Group, rung: int) -> str:
        """They are worse than the median."""
        return f"rung {rung + 1} (epoch {group.rungs[rung]:.3g}): worse than the median {self._cut(group, rung):.4f}"

    def _cut(self, group: Group, rung: int) -> float:
        values = [c.value_at(rung) for c in group.configurations if c.passed >= rung]
        known = [value for value in values if math.isfinite(value)]
        return median(known) if known else math.inf
