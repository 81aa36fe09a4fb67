"""The figures of a study, each by a name and as a function that gives a plotly figure: `crossing("runs/mine")`.

Importing this package registers them in the order in which the page shows them.
"""

from __future__ import annotations

from crossover.platform.analysis.figures.crossing import crossing, loss_flops
from crossover.platform.analysis.figures.losses import loss_epochs  # isort: split

from crossover.platform.analysis.figures.iso_flop import iso_flop  # isort: split

from crossover.platform.analysis.figures.axis_effects import importance, parallel_coordinates
from crossover.platform.analysis.figures.halving import halving  # isort: split

from crossover.platform.analysis.figures.task_gap import task_gap  # isort: split

from crossover.platform.analysis.figures.memorization import memorization  # isort: split

from crossover.platform.analysis.figures.law import law  # isort: split

from crossover.platform.analysis.figures.cost import cost  # isort: split

from crossover.platform.analysis.figures.files import write_figure, write_figures
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.registry import (
    Drawing,
    FigureError,
    Panel,
    StudyFigure,
    all_figures,
    get_figure,
)

__all__ = [
    "Drawing",
    "FigureError",
    "Findings",
    "Panel",
    "StudyFigure",
    "all_figures",
    "cost",
    "crossing",
    "get_figure",
    "halving",
    "importance",
    "iso_flop",
    "law",
    "loss_epochs",
    "loss_flops",
    "memorization",
    "parallel_coordinates",
    "task_gap",
    "write_figure",
    "write_figures",
]
