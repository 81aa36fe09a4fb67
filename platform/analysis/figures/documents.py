"""What figures are made of: plain plotly documents, coloured by token (`--masked_diffusion`).

A document is drawn in three places, and by one description: the page (which puts in the colours of its ground, light or
dark), a plotly figure for notebooks, and files by matplotlib. So a figure uses only what all three know: scatter, bar,
rectangles, lines and words; places in a panel are `x domain` and `y domain`, never `paper`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from crossover.platform.analysis.palette import LIGHT

__all__ = [
    "Document",
    "band",
    "bars",
    "layout",
    "line",
    "log_ticks",
    "marks",
    "rounded",
    "short",
    "with_colours",
    "words",
]

Document = dict[str, Any]
_GROUND = "#ffffff"


def with_colours(document: Any, colours: dict[str, str] | None = None) -> Any:
    """A document with its colour tokens replaced; by default for a white ground."""
    known = colours or LIGHT | {"ground": _GROUND}
    if isinstance(document, dict):
        return {key: with_colours(value, known) for key, value in document.items()}
    if isinstance(document, list):
        return [with_colours(value, known) for value in document]
    if isinstance(document, str) and document.startswith("--"):
        return known[document.removeprefix("--")]
    return document


def line(
    x: Iterable[float],
    y: Iterable[float],
    colour: str,
    name: str,
    *,
    legend: bool = True,
    width: float = 1.5,
    dash: str = "solid",
    hover: str = "",
    opacity: float = 1.0,
    digits: int = 6,
) -> Document:
    """A curve; a value that is not finite is a gap. Without `hover` it says nothing under the mouse."""
    shown: Document = (
        {"hovertemplate": f"%{{x:.4g}}: %{{y:.4f}}<extra>{hover}</extra>"} if hover else {"hoverinfo": "skip"}
    )
    return {
        "type": "scatter",
        "mode": "lines",
        "x": rounded(x, digits),
        "y": rounded(y, digits),
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "opacity": opacity,
        "line": {"color": colour, "width": width, "dash": dash},
        **shown,
    }


def marks(
    points: Sequence[tuple[float, float]],
    colour: str,
    name: str,
    symbol: str,
    about: Sequence[str],
    *,
    legend: bool = True,
    size: float = 10,
    opacity: float = 1.0,
) -> Document:
    """Separate points, each with what it says under the mouse."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(x for x, _ in points),
        "y": rounded(y for _, y in points),
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "opacity": opacity,
        "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"color": "--ground", "width": 1.5}},
        "text": list(about),
        "hovertemplate": "%{x:.4g}: %{y:.4f}<extra>%{text}</extra>",
    }


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, name: str) -> Document:
    """What lies between two curves."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": rounded([*x, *reversed(list(x))]),
        "y": rounded([*low, *reversed(list(high))]),
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.22,
        "line": {"width": 0, "color": colour},
        "name": name,
        "legendgroup": name,
        "showlegend": True,
        "hoverinfo": "skip",
    }


def bars(names: Sequence[str], values: Iterable[float], colour: str, name: str, about: Sequence[str]) -> Document:
    """Horizontal bars; those of several documents of one panel are stacked."""
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(names),
        "x": rounded(values),
        "name": name,
        "legendgroup": name,
        "showlegend": bool(name),
        "marker": {"color": colour},
        "text": list(about),
        "textposition": "none",
        "hovertemplate": "%{y}: %{text}<extra>%{fullData.name}</extra>",
    }


def words(
    text: str,
    x: float,
    y: float,
    colour: str = "--text",
    *,
    xref: str = "x",
    yref: str = "y domain",
    size: float = 12,
    xanchor: str = "center",
    yanchor: str = "middle",
    xshift: float = 0,
) -> Document:
    """A label; on a logarithmic axis `x` is the power of ten, as plotly has it."""
    font = {"color": colour, "size": size}
    return {"text": text, "showarrow": False, "font": font, "x": x, "y": y, "xref": xref, "yref": yref,
            "xanchor": xanchor, "yanchor": yanchor, "xshift": xshift}  # fmt: skip


def log_ticks(first: float, last: float, *, si: bool = False) -> Document:
    """Ticks at 1, 2, 5 of each decade, or at decades alone where these would be too many; `si`: powers of ten."""
    powers = range(math.floor(math.log10(first)) - 1, math.ceil(math.log10(last)) + 1)
    steps = (1, 2, 5) if last / first < 2e3 else (1,)
    ticks = [
        step * 10.0**power for power in powers for step in steps if first * 0.99 <= step * 10.0**power <= last * 1.01
    ]
    return {"type": "log", "tickvals": ticks, "ticktext": [_power(tick) if si else f"{tick:g}" for tick in ticks]}


def layout(x: Document, y: Document) -> Document:
    """The look that all figures share; `x` and `y` are what is their own of each axis."""
    axis: Document = {
        "title": {"font": {"size": 13}},
        "gridcolor": "--grid",
        "linecolor": "--muted",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "--muted",
        "automargin": True,
    }
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--text", "size": 13},
        "margin": {"l": 62, "r": 14, "t": 8, "b": 52},
        "hoverlabel": {"bgcolor": "--ground", "bordercolor": "--muted", "font": {"color": "--text"}, "align": "left"},
        "barmode": "stack",
        "xaxis": axis | x | {"title": axis["title"] | x.get("title", {})},
        "yaxis": axis | y | {"title": axis["title"] | y.get("title", {})},
        "shapes": [],
        "annotations": [],
    }


def rounded(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Numbers as the page holds them: so many digits, and nothing where there is no finite number."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def short(value: object) -> str:
    """A setting's value in a label."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _power(value: float) -> str:
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power)
    exponent = str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"10{exponent}" if factor == 1 else f"{factor}·10{exponent}"
