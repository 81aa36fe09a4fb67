"""From a study's record to its answer: tables, comparisons, figures and the report.

Names are imported when they are asked for, so that reading tables does not load the figure libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossover.platform.analysis.answers import Answer, answer
    from crossover.platform.analysis.export import write_table
    from crossover.platform.analysis.figures import write_figure, write_figures
    from crossover.platform.analysis.printing import print_answer
    from crossover.platform.analysis.report import write_report
    from crossover.platform.analysis.tables import StudyTables, load_study

__all__ = [
    "Answer",
    "StudyTables",
    "answer",
    "load_study",
    "print_answer",
    "write_figure",
    "write_figures",
    "write_report",
    "write_table",
]

_HOMES = {
    "Answer": "answers",
    "answer": "answers",
    "write_table": "export",
    "write_figure": "figures",
    "write_figures": "figures",
    "print_answer": "printing",
    "write_report": "report",
    "StudyTables": "tables",
    "load_study": "tables",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
