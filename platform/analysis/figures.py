"""The crossing figure as SVG and PNG, drawn without a browser; the same record gives the same bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossover.platform.analysis.answers import BASELINE, Answer, answer
from crossover.platform.analysis.curves import DrawnObjective, DrawnPair, drawn_pairs
from crossover.platform.analysis.palette import LIGHT, STOP_WORDS
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.platform.analysis.wording import SHORT, ahead_label, crossing_label, established

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["crossing_figure", "write_figures"]

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["text"],
    "xtick.color": LIGHT["text"],
    "ytick.color": LIGHT["text"],
    "text.color": LIGHT["text"],
    "svg.hashsalt": "crossover",
}


def write_figures(study: str | Path | StudyTables, found: Answer | None = None) -> list[Path]:
    """Write figures/crossing.svg and figures/crossing.png in the study's folder; none if nothing was evaluated yet."""
    import matplotlib as mpl

    tables = study if isinstance(study, StudyTables) else load_study(study)
    folder = tables.path / "figures"
    paths = [folder / "crossing.svg", folder / "crossing.png"]
    with mpl.rc_context(_STYLE):
        figure = crossing_figure(tables, found or answer(tables))
        if figure is None:
            return []
        folder.mkdir(exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None, "Creator": None})
        figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    return paths


def crossing_figure(tables: StudyTables, found: Answer) -> Figure | None:
    """Validation against epochs, a panel for each setting; None if nothing was evaluated yet."""
    from matplotlib.figure import Figure

    pairs = drawn_pairs(tables, found)
    if not pairs:
        return None
    num_columns = min(2, len(pairs))
    num_rows = math.ceil(len(pairs) / num_columns)
    width = 7.2 if num_columns == 1 else 5.9 * num_columns
    figure = Figure(figsize=(width, 4.7 * num_rows), layout="constrained", facecolor="white")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).ravel()
    ranges = [pair.bits_range() for pair in pairs]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    for panel, pair in zip(panels, pairs, strict=False):
        _draw_panel(panel, pair, low - 0.16 * (high - low), high)
    for panel in panels[::num_columns]:
        panel.set_ylabel("validation, bits per byte")
    entries = {text: line for panel in panels for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    for panel in panels[len(pairs) :]:
        panel.set_axis_off()
    return figure


def _draw_panel(panel: Axes, pair: DrawnPair, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(True, which="major", color=LIGHT["grid"], linewidth=0.7)
    panel.set_axisbelow(True)
    panel.set_ylim(low, high)
    last = pair.epochs_range[1]
    _draw_crossings(panel, pair)
    for objective in pair.objectives:
        _draw_objective(panel, objective, last, high)
    panel.set_title(pair.answer.title.replace(" (", "\n("), loc="left", pad=22)
    style: dict[str, Any] = {"fontsize": 9, "color": LIGHT["muted"], "in_layout": False}  # or panels shrink for words
    panel.text(0, 1.025, ahead_label(pair.answer.test), transform=panel.transAxes, **style)
    panel.set_xlabel("epochs over the unique tokens")
    panel.tick_params(labelleft=True)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _draw_objective(panel: Axes, objective: DrawnObjective, last: float, top: float) -> None:
    colour, name = LIGHT[objective.name], SHORT[objective.name]
    seeds = objective.seeds
    kind = "exact" if objective.name == BASELINE else "upper bound"
    if len(seeds) > 1:
        for seed in seeds:
            panel.plot(seed.epochs_E, seed.bits_E, color=colour, linewidth=0.7, alpha=0.45)
    label = f"{name} ({kind}), " + (f"mean of {len(seeds)} seeds" if len(seeds) > 1 else "one seed")
    panel.plot(*objective.mean(), color=colour, linewidth=2.2, label=label, solid_capstyle="round")
    best = [(seed.epochs_E[seed.best], seed.bits_E[seed.best]) for seed in seeds]
    panel.plot(
        *zip(*best, strict=True), "o", color=colour, markeredgecolor="white", markersize=6.5, label=f"{name}, best"
    )
    if objective.name == BASELINE:
        envelope = objective.mean(best_so_far=True, until=last)
        panel.plot(*envelope, "--", color=colour, linewidth=1.2, label="AR, best so far")
    reasons = sorted({seed.stop_reason for seed in seeds if seed.stop_reason not in (None, "completed")}, key=str)
    for reason in reasons:
        ends = [(s.epochs_E[-1], min(s.bits_E[-1], top)) for s in seeds if s.stop_reason == reason]
        words = f"{name}, {STOP_WORDS.get(str(reason), str(reason))}"
        panel.plot(
            *zip(*ends, strict=True),
            "X",
            color=colour,
            markeredgecolor="white",
            markersize=9,
            label=words,
            clip_on=False,
        )


def _draw_crossings(panel: Axes, pair: DrawnPair) -> None:
    """Interval of each crossing: a shade over the panel and a bar at its foot; an open end runs to the panel's edge."""
    last = pair.epochs_range[1]
    for row, crossing in enumerate((pair.answer.equal_epochs, pair.answer.envelope)):
        if crossing is None:
            continue
        words, height = crossing_label(crossing), 0.10 - 0.06 * row
        size = 9 if len(words) < 45 else 7.5  # a long label has to fit beside its bar
        style: dict[str, Any] = {"color": LIGHT[crossing.against], "fontsize": size, "va": "center"}
        if crossing.epochs.estimate is None or not established(crossing):
            panel.text(0.02, height, words, transform=panel.transAxes, **style)
            continue
        start, end = crossing.epochs.low or last, crossing.epochs.high or last
        foot = panel.get_xaxis_transform()  # x in epochs, y as a share of the panel
        panel.axvspan(start, end, color=style["color"], alpha=0.12, linewidth=0)
        bar: dict[str, Any] = {"transform": foot, "color": style["color"]}
        panel.plot([start, end], [height, height], linewidth=2.5, solid_capstyle="butt", **bar)
        panel.plot([crossing.epochs.estimate], [height], "D", markersize=5, markeredgecolor="white", **bar)
        at_left = pair.is_left(start)  # the words go where there is more room
        beside: dict[str, Any] = {"ha": "left", "xytext": (6, 0)} if at_left else {"ha": "right", "xytext": (-6, 0)}
        place: dict[str, Any] = {
            "xy": (end if at_left else start, height),
            "xycoords": foot,
            "textcoords": "offset points",
        }
        panel.annotate(words, **place, **beside, **style, in_layout=False)
