"""The panels of a figure drawn by matplotlib: files without a browser; the same record gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crossover.platform.analysis.figures.assembling import grid_of
from crossover.platform.analysis.figures.documents import Document, with_colours
from crossover.platform.analysis.figures.registry import Drawing, Panel, StudyFigure
from crossover.platform.analysis.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["STYLE", "drawn"]

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["text"],
    "xtick.color": LIGHT["text"],
    "ytick.color": LIGHT["text"],
    "text.color": LIGHT["text"],
    "text.parse_math": False,  # a dollar in a study's name is a dollar
    "svg.hashsalt": "crossover",
}
_POINTS = 0.78  # matplotlib's points for one of plotly's pixels
_INCH = 100.0  # pixels
_TITLE_LETTERS = 9.2  # an inch, bold
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_SYMBOLS = {"circle": "o", "circle-open": "o", "x": "X", "triangle-up": "^", "square": "s", "diamond": "D"}
_HA = {"left": "left", "right": "right", "center": "center"}
_VA = {"top": "top", "bottom": "bottom", "middle": "center"}


def drawn(figure: StudyFigure, drawing: Drawing) -> Figure:
    """A figure of matplotlib with all panels and one legend below them; call it with `STYLE` in force."""
    from matplotlib.figure import Figure

    num_rows, num_columns = grid_of(len(drawing.panels), figure.wide)
    width = 8.6 if num_columns == 1 else 5.9 * num_columns
    heights = [
        max(panel.height for panel in drawing.panels[row * num_columns :][:num_columns]) for row in range(num_rows)
    ]
    made = Figure(figsize=(width, sum(heights) / _INCH + 0.6), layout="constrained", facecolor="white")
    axes = made.subplots(num_rows, num_columns, squeeze=False, height_ratios=heights).ravel()
    for ax, panel in zip(axes, drawing.panels, strict=False):
        _draw(ax, panel, int(_TITLE_LETTERS * width / num_columns))
    for ax in axes[len(drawing.panels) :]:
        ax.set_axis_off()
    entries = {text: line for ax in axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    if entries:
        handles, labels = list(entries.values()), list(entries)
        columns = max(1, min(4, int(width / 2.7)))
        made.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return made


def _draw(ax: Axes, panel: Panel, title_letters: int) -> None:
    document = with_colours(panel.document)
    layout = document["layout"]
    ax.grid(True, which="major", color=LIGHT["grid"], linewidth=0.7)
    ax.set_axisbelow(True)
    _lay_out(ax, "x", layout["xaxis"])
    _lay_out(ax, "y", layout["yaxis"])
    left: dict[str, float] = {}
    for trace in document["data"]:
        if trace["type"] == "bar":
            _bars(ax, trace, left)
        else:
            _scatter(ax, trace)
    for shape in layout["shapes"]:
        _shape(ax, shape)
    for label in layout["annotations"]:
        _label(ax, label, layout["xaxis"].get("type") == "log")
    lines = _wrapped(panel.title, title_letters)
    ax.set_title("\n".join(lines), loc="left", pad=22 if panel.subtitle else 8)
    style: dict[str, Any] = {"fontsize": 9, "color": LIGHT["muted"], "in_layout": False}  # or panels shrink for words
    ax.text(0, 1.025, panel.subtitle, transform=ax.transAxes, **style)


def _wrapped(title: str, letters: int) -> list[str]:
    """In lines as wide as the panel, a bracket in lines of its own."""
    import textwrap

    head, bracket, rest = title.partition(" (")
    return [*textwrap.wrap(head, letters), *(textwrap.wrap(bracket.strip() + rest, letters) if rest else [])]


def _lay_out(ax: Axes, which: str, axis: Document) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    own = getattr(ax, f"{which}axis")
    is_log = axis.get("type") == "log"
    if is_log:
        getattr(ax, f"set_{which}scale")("log")
        own.set_minor_locator(NullLocator())
        own.set_minor_formatter(NullFormatter())
    if "tickvals" in axis:
        own.set_ticks(axis["tickvals"], axis["ticktext"])
    if "range" in axis:
        low, high = axis["range"]
        getattr(ax, f"set_{which}lim")((10**low, 10**high) if is_log else (low, high))
    if axis.get("autorange") == "reversed":
        own.set_inverted(True)
    if axis.get("showgrid") is False:
        ax.grid(False, axis=which)  # type: ignore[arg-type]
    getattr(ax, f"set_{which}label")(axis.get("title", {}).get("text", ""))


def _scatter(ax: Axes, trace: Document) -> None:
    x = [float("nan") if value is None else value for value in trace["x"]]
    y = [float("nan") if value is None else value for value in trace["y"]]
    label = trace["name"] if trace.get("showlegend") else None
    opacity = trace.get("opacity", 1.0)
    if trace.get("fill") == "toself":
        ax.fill(x, y, color=trace["fillcolor"], alpha=opacity, linewidth=0, label=label)
        return
    style: dict[str, Any] = {"label": label, "alpha": opacity}
    if "lines" in trace["mode"]:
        line = trace["line"]
        style |= {"color": line["color"], "linewidth": _POINTS * line["width"], "solid_capstyle": "round",
                  "linestyle": _DASHES[line.get("dash", "solid")]}  # fmt: skip
    else:
        style |= {"linestyle": "none"}
    if "markers" in trace["mode"]:
        style |= _marker(trace["marker"])
    ax.plot(x, y, **style)


def _marker(marker: Document) -> dict[str, Any]:
    hollow = marker["symbol"].endswith("-open")
    return {
        "color": marker["color"],
        "marker": _SYMBOLS[marker["symbol"]],
        "markersize": 0.72 * marker["size"],
        "markerfacecolor": "none" if hollow else marker["color"],
        "markeredgecolor": marker["color"] if hollow else "white",
    }


def _bars(ax: Axes, trace: Document, left: dict[str, float]) -> None:
    values = [value or 0.0 for value in trace["x"]]
    starts = [left.get(name, 0.0) for name in trace["y"]]
    label = trace["name"] if trace.get("showlegend") else None
    ax.barh(trace["y"], values, left=starts, color=trace["marker"]["color"], height=0.7, label=label)
    left.update({name: start + value for name, start, value in zip(trace["y"], starts, values, strict=True)})


def _shape(ax: Axes, shape: Document) -> None:
    from matplotlib.patches import Rectangle

    transform = _transform(ax, (shape["xref"], shape["yref"]))
    if shape["type"] == "line":
        style = {"color": shape["line"]["color"], "linewidth": _POINTS * shape["line"]["width"]}
        dash = _DASHES[shape["line"].get("dash", "solid")]
        ax.plot([shape["x0"], shape["x1"]], [shape["y0"], shape["y1"]], transform=transform, linestyle=dash, **style,
                scalex=False, scaley=False)  # fmt: skip
        return
    corner, size = (shape["x0"], shape["y0"]), (shape["x1"] - shape["x0"], shape["y1"] - shape["y0"])
    ax.add_patch(Rectangle(corner, *size, transform=transform, color=shape["fillcolor"], linewidth=0,
                           alpha=shape["opacity"], zorder=0.6 if shape["layer"] == "below" else 3))  # fmt: skip


def _label(ax: Axes, label: Document, is_log: bool) -> None:
    x = 10 ** label["x"] if is_log and label["xref"] == "x" else label["x"]
    words = ax.annotate(
        label["text"],
        xy=(x, label["y"]),
        xycoords=_transform(ax, (label["xref"], label["yref"])),
        xytext=(_POINTS * label["xshift"], 0),
        textcoords="offset points",
        color=label["font"]["color"],
        fontsize=0.76 * label["font"]["size"],
        ha=_HA[label["xanchor"]],
        va=_VA[label["yanchor"]],
        bbox={"facecolor": label["bgcolor"], "linewidth": 0, "pad": 1, "alpha": 0.85} if "bgcolor" in label else None,
    )
    words.set_in_layout(False)


def _transform(ax: Axes, refs: Sequence[str]) -> Any:
    from matplotlib.transforms import blended_transform_factory

    across, up = (ax.transAxes if ref.endswith("domain") else ax.transData for ref in refs)
    return blended_transform_factory(across, up)
