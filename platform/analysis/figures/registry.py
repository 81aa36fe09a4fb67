"""The figures by name. A figure is one function from findings to panels; page, notebooks and files draw what it gives.

`@register_figure(...)` makes it a `StudyFigure`, which called with a study gives a plotly figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossover.platform.analysis.figures.documents import Document
from crossover.platform.analysis.figures.findings import Findings
from crossover.search_spaces import near
from crossover.trainers.errors import CrossoverError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from crossover.platform.analysis.tables import StudyTables

__all__ = ["Drawing", "FigureError", "Panel", "StudyFigure", "all_figures", "get_figure", "register_figure"]

MAX_PANELS = 24
"""Panels of a figure: more would be scrolled past, and would fill the page."""


class FigureError(CrossoverError):
    """A figure that there is not, or that this study has nothing for."""


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: what it is about; the user's words stand in it as they are.
        document: traces and layout, as in `documents.py`.
        subtitle: one line below the title.
        height: in pixels of the page.
    """

    title: str
    document: Document
    subtitle: str = ""
    height: int = 420


@dataclass(frozen=True)
class Drawing:
    """A figure of one study.

    Args:
        panels: none where the study has nothing to draw.
        notes: what was left out, or why there is nothing.
    """

    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, panels: Sequence[Panel], *notes: str) -> Drawing:
        """As many of the panels as are shown, and a note if that is not all of them."""
        more = len(panels) - MAX_PANELS
        left = (f"The first {MAX_PANELS} of {len(panels)} panels are shown.",) if more > 0 else ()
        return cls(tuple(panels[:MAX_PANELS]), (*(note for note in notes if note), *left))


@dataclass(frozen=True)
class StudyFigure:
    """A figure that any study may have.

    Args:
        name: on the command line.
        title: its heading.
        caption: how it is read.
        draw: from findings to panels.
        wide: a panel takes the whole width of the page.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Findings], Drawing]
    wide: bool = False

    def __call__(self, study: str | Path | StudyTables | Findings) -> Figure:
        """The plotly figure of a study: its folder, its tables or its findings.

        Raises:
            FigureError: the study has nothing to draw there.
        """
        from crossover.platform.analysis.figures.assembling import plotly_figure

        return plotly_figure(self, self.drawing(study))

    def drawing(self, study: str | Path | StudyTables | Findings) -> Drawing:
        """Its panels, of which there is one at least.

        Raises:
            FigureError: the study has nothing to draw there.
        """
        findings = Findings.of(study)
        drawn = self.draw(findings)
        if not drawn.panels:
            why = " ".join(drawn.notes) or "nothing was evaluated yet"
            raise FigureError(f"study {findings.tables.study.name} has nothing for the figure {self.name}: {why}")
        return drawn


_FIGURES: dict[str, StudyFigure] = {}


def register_figure(
    name: str, *, title: str, caption: str, wide: bool = False
) -> Callable[[Callable[[Findings], Drawing]], StudyFigure]:
    """Makes a function a figure; the page shows figures in the order in which they are registered."""

    def register(draw: Callable[[Findings], Drawing]) -> StudyFigure:
        assert name not in _FIGURES, name
        _FIGURES[name] = StudyFigure(name, title, caption, draw, wide)
        return _FIGURES[name]

    return register


def all_figures() -> dict[str, StudyFigure]:
    """Every figure by name, in the order of the page."""
    return dict(_FIGURES)


def get_figure(name: str) -> StudyFigure:
    """A figure by its name.

    Raises:
        FigureError: there is none of that name.
    """
    if name not in _FIGURES:
        raise FigureError(f"there is no figure {name!r}{near(name, _FIGURES)}. Figures: {', '.join(_FIGURES)}")
    return _FIGURES[name]
