"""One plotly figure out of the panels of a drawing: a grid, each panel on axes of its own, one legend."""

from __future__ import annotations

import copy
import html
import math
import re
from typing import TYPE_CHECKING, Any

from crossover.platform.analysis.figures.documents import Document, with_colours, words
from crossover.platform.analysis.figures.registry import Drawing, Panel, StudyFigure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["grid_of", "plotly_figure"]

_HEAD = 64  # pixels of a panel's titles
_FOOT = 62  # of its axis
_WIDTH = 620
_OWN = ("xaxis", "yaxis", "shapes", "annotations")


def grid_of(num_panels: int, wide: bool) -> tuple[int, int]:
    """Rows and columns."""
    num_columns = 1 if wide else min(2, num_panels)
    return math.ceil(num_panels / num_columns), num_columns


def plotly_figure(figure: StudyFigure, drawing: Drawing) -> Figure:
    """All panels in one figure, on white."""
    from plotly.graph_objects import Figure

    num_rows, num_columns = grid_of(len(drawing.panels), figure.wide)
    rows = [drawing.panels[row * num_columns : (row + 1) * num_columns] for row in range(num_rows)]
    heights = [max(panel.height for panel in row) + _HEAD + _FOOT for row in rows]
    total, top, number = sum(heights), 0.0, 1
    data: list[Document] = []
    layout: Document = {"shapes": [], "annotations": []}
    seen: set[str] = set()
    for row, height in zip(rows, heights, strict=True):
        domain = [1 - (top + height - _FOOT) / total, 1 - (top + _HEAD) / total]
        for column, panel in enumerate(row):
            left = column / num_columns + 0.09 / num_columns
            across = [left, (column + 0.985) / num_columns]
            _add(panel, number, across, domain, data, layout, seen)
            number += 1
        top += height
    layout |= {name: value for name, value in rows[0][0].document["layout"].items() if name not in _OWN}
    layout |= {
        "height": total + 90,
        "width": _WIDTH * num_columns + (240 if num_columns == 1 else 0),
        "title": {"text": html.escape(figure.title), "x": 0.01},
        "margin": {"l": 40, "r": 12, "t": 60, "b": 30},
        "legend": {"orientation": "h", "y": 0, "yanchor": "top", "x": 0},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }
    found: Figure = Figure(with_colours({"data": data, "layout": layout}))
    return found


def _add(panel: Panel, number: int, across: list[float], up: list[float], data: list[Document], layout: Document,
         seen: set[str]) -> None:  # fmt: skip
    own = copy.deepcopy(panel.document)
    suffix = "" if number == 1 else str(number)
    for trace in own["data"]:
        trace |= {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        trace["showlegend"] = bool(trace.get("showlegend") and trace["name"] not in seen)
        seen |= {trace["name"]} if trace["showlegend"] else set()
        data.append(trace)
    layout[f"xaxis{suffix}"] = own["layout"]["xaxis"] | {"domain": across, "anchor": f"y{suffix}"}
    layout[f"yaxis{suffix}"] = own["layout"]["yaxis"] | {"domain": up, "anchor": f"x{suffix}"}
    heading = f"<b>{html.escape(panel.title)}</b><br><span style='font-size:12px'>{html.escape(panel.subtitle)}</span>"
    title = words(heading, 0, 1.0, xref="x domain", size=14, xanchor="left", yanchor="bottom") | {"align": "left"}
    layout["shapes"] += [_moved(shape, suffix) for shape in own["layout"]["shapes"]]
    layout["annotations"] += [_moved(label, suffix) for label in (*own["layout"]["annotations"], title)]


def _moved(item: dict[str, Any], suffix: str) -> dict[str, Any]:
    """A shape or label, on the axes of its panel."""
    return item | {name: re.sub(r"^[xy]", rf"\g<0>{suffix}", item[name]) for name in ("xref", "yref")}
