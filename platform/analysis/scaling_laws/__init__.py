"""Scaling laws: from a table of losses to a law with its uncertainty; `fit_law` is the way in.

Names are imported when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossover.platform.analysis.scaling_laws.fitting import FitSettings, fit_law
    from crossover.platform.analysis.scaling_laws.predicting import Point
    from crossover.platform.analysis.scaling_laws.printing import print_fit
    from crossover.platform.analysis.scaling_laws.reading import losses_of_study, read_losses
    from crossover.platform.analysis.scaling_laws.results import LawFit, ParameterFit, Prediction
    from crossover.platform.analysis.scaling_laws.table import LossTable, LossTableError

__all__ = [
    "FitSettings",
    "LawFit",
    "LossTable",
    "LossTableError",
    "ParameterFit",
    "Point",
    "Prediction",
    "fit_law",
    "losses_of_study",
    "print_fit",
    "read_losses",
]

_HOMES = {
    "FitSettings": "fitting",
    "fit_law": "fitting",
    "Point": "predicting",
    "print_fit": "printing",
    "losses_of_study": "reading",
    "read_losses": "reading",
    "LawFit": "results",
    "ParameterFit": "results",
    "Prediction": "results",
    "LossTable": "table",
    "LossTableError": "table",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
