"""Crossings as a decision needs them: fitted and measured, of a table or a study, in epochs, tokens and FLOPs."""

from __future__ import annotations

from crossover.platform.analysis.crossing.finding import CrossingSettings, crossings_of_study, crossings_of_table
from crossover.platform.analysis.crossing.printing import print_crossings
from crossover.platform.analysis.crossing.results import CrossingEntry, CrossingReport, DataEfficiency, PowerLaw

__all__ = [
    "CrossingEntry",
    "CrossingReport",
    "CrossingSettings",
    "DataEfficiency",
    "PowerLaw",
    "crossings_of_study",
    "crossings_of_table",
    "print_crossings",
]
