"""One legend for all panels of a figure, for the page: in each panel it would take half the room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crossover.platform.analysis.figures.documents import Document
from crossover.platform.analysis.figures.registry import Panel

__all__ = ["LegendEntry", "legend_of"]


@dataclass(frozen=True)
class LegendEntry:
    """A name and how it looks.

    Args:
        kind: line, band, bar, or a marker's symbol.
        colour: a token, without its dashes.
        dash: solid, dash or dot.
    """

    name: str
    kind: str
    colour: str
    width: float = 1.5
    dash: str = "solid"
    opacity: float = 1.0


def legend_of(panels: Iterable[Panel]) -> list[LegendEntry]:
    """Every name that a panel's legend would have, once for each colour."""
    found: dict[tuple[str, str], LegendEntry] = {}
    for panel in panels:
        for trace in panel.document["data"]:
            if trace.get("showlegend"):
                entry = _entry(trace)
                found.setdefault((entry.name, entry.colour), entry)
    return list(found.values())


def _entry(trace: Document) -> LegendEntry:
    name, opacity = trace["name"], trace.get("opacity", 1.0)
    if trace["type"] == "bar":
        return LegendEntry(name, "bar", _token(trace["marker"]["color"]))
    if "fill" in trace:
        return LegendEntry(name, "band", _token(trace["fillcolor"]), opacity=opacity)
    if "lines" not in trace["mode"]:
        return LegendEntry(name, trace["marker"]["symbol"], _token(trace["marker"]["color"]), opacity=opacity)
    line = trace["line"]
    return LegendEntry(name, "line", _token(line["color"]), line["width"], line["dash"], opacity)


def _token(colour: str) -> str:
    return colour.removeprefix("--")
