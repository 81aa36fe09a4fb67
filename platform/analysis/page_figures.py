"""The page's figures as plain plotly documents, coloured by token (`--masked_diffusion`): the page puts in the colours
of its ground, light or dark, so one figure serves both.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from crossover.platform.analysis.answers import BASELINE, CHALLENGER
from crossover.platform.analysis.curves import DrawnObjective, DrawnPair, DrawnTrial
from crossover.platform.analysis.palette import LIGHT, STOP_WORDS
from crossover.platform.analysis.wording import SHORT, crossing_label, established

__all__ = ["PageFigure", "crossing_document", "loss_document", "with_colours"]

MAX_OTHER_TRIALS = 60  # faint curves a panel: more are no longer told apart, and would fill the page


@dataclass(frozen=True)
class PageFigure:
    """A figure and where it goes."""

    key: str
    caption: str
    document: dict[str, Any]


def with_colours(document: Any, colours: dict[str, str] = LIGHT) -> Any:
    """A document with its colour tokens replaced, for plotly without the page: `go.Figure(with_colours(...))`."""
    if isinstance(document, dict):
        return {key: with_colours(value, colours) for key, value in document.items()}
    if isinstance(document, list):
        return [with_colours(value, colours) for value in document]
    if isinstance(document, str) and document.startswith("--"):
        return colours[document.removeprefix("--")]
    return document


def crossing_document(pair: DrawnPair) -> dict[str, Any]:
    """Validation in bits per byte against epochs, with both crossings."""
    low, high = pair.bits_range()
    low -= 0.14 * (high - low)
    first, last = pair.epochs_range
    traces = [trace for objective in pair.objectives for trace in _bits_traces(objective, last)]
    shapes, annotations = _crossing_marks(pair)
    layout = _layout("validation, bits per byte", first, last)
    layout["yaxis"]["range"] = [low, high]
    layout |= {"shapes": shapes, "annotations": annotations}
    return {"data": traces, "layout": layout}


def loss_document(objective: DrawnObjective) -> dict[str, Any]:
    """Validation and training loss of every trial of an objective, the chosen configuration's in front."""
    others = [trial for trial in objective.trials if not trial.chosen][:MAX_OTHER_TRIALS]
    traces = [_faint(trial, place == 0) for place, trial in enumerate(others)]
    colour = f"--{objective.name}"
    for place, seed in enumerate(objective.seeds):
        shown = place == 0
        traces.append(_line(seed.epochs_E, seed.validation_E, colour, "validation", shown, width=2, hover=_about(seed)))
        traces.append(_line(seed.epochs_E, seed.training_E, colour, "training", shown, dash="dot", hover=_about(seed)))
    ends = [t for t in (*objective.seeds, *others) if t.stop_reason]
    traces += list(_stop_marks(ends, colour))
    first = min(t.epochs_E[0] for t in objective.seeds)
    last = max(t.epochs_E[-1] for t in (*objective.seeds, *others))
    layout = _layout("nats per token", first, last)
    values = [v for t in objective.seeds for v in (*t.validation_E, *t.training_E) if v == v]
    margin = 0.06 * (max(values) - min(values)) or 0.1
    layout["yaxis"]["range"] = [min(values) - margin, max(values) + margin]
    return {"data": traces, "layout": layout}


def _bits_traces(objective: DrawnObjective, last: float) -> Iterator[dict[str, Any]]:
    colour, name = f"--{objective.name}", SHORT[objective.name]
    kind = {BASELINE: "exact", CHALLENGER: "upper bound"}[objective.name]
    many = len(objective.seeds) > 1
    for seed in objective.seeds if many else ():
        yield _line(seed.epochs_E, seed.bits_E, colour, f"{name}, seeds", seed is objective.seeds[0], width=1,
                    hover=_about(seed)) | {"opacity": 0.4}  # fmt: skip
    label = f"{name} ({kind}), " + (f"mean of {len(objective.seeds)} seeds" if many else "one seed")
    yield _line(*objective.mean(), colour, label, True, width=3, hover=label)
    if objective.name == BASELINE:
        until = _line(*objective.mean(best_so_far=True, until=last), colour, "AR, best so far", True, dash="dash")
        yield until | {"hoverinfo": "skip"}
    bests = [(seed.epochs_E[seed.best], seed.bits_E[seed.best]) for seed in objective.seeds]
    yield _marks(bests, colour, f"{name}, best", "circle", [_about(seed) for seed in objective.seeds])
    stopped = [seed for seed in objective.seeds if seed.stop_reason not in (None, "completed")]
    for reason in dict.fromkeys(str(seed.stop_reason) for seed in stopped):
        ended = [seed for seed in stopped if seed.stop_reason == reason]
        points = [(seed.epochs_E[-1], seed.bits_E[-1]) for seed in ended]
        yield _marks(points, colour, f"{name}, {STOP_WORDS[reason]}", "x", [_about(seed) for seed in ended])


def _crossing_marks(pair: DrawnPair) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    last = pair.epochs_range[1]
    shapes: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, crossing in enumerate((pair.answer.equal_epochs, pair.answer.envelope)):
        if crossing is None:
            continue
        height, colour = 0.09 - 0.055 * place, f"--{crossing.against}"
        words = {"text": crossing_label(crossing), "showarrow": False, "font": {"color": colour, "size": 12},
                 "yref": "paper", "y": height, "yanchor": "middle"}  # fmt: skip
        if not established(crossing):
            annotations.append(words | {"xref": "paper", "x": 0.01, "xanchor": "left"})
            continue
        start, end = crossing.epochs.low or last, crossing.epochs.high or last
        at_left = pair.is_left(start)
        span = {"type": "rect", "x0": start, "x1": end, "yref": "paper", "layer": "below", "fillcolor": colour}
        shapes.append(span | {"y0": 0, "y1": 1, "opacity": 0.12, "line": {"width": 0}})
        shapes.append(span | {"y0": height - 0.006, "y1": height + 0.006, "line": {"width": 0}, "layer": "above"})
        mark = {"text": "◆", "xref": "x", "x": math.log10(crossing.epochs.estimate or last)}
        annotations.append(words | mark | {"font": {"color": colour, "size": 17}})
        beside = {"xanchor": "left", "xshift": 6} if at_left else {"xanchor": "right", "xshift": -6}
        annotations.append(words | beside | {"xref": "x", "x": math.log10(end if at_left else start)})
    return shapes, annotations


def _line(
    x: Sequence[float] | Any,
    y: Sequence[float] | Any,
    colour: str,
    name: str,
    legend: bool,
    *,
    width: float = 1.5,
    dash: str = "solid",
    hover: str = "",
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _rounded(x),
        "y": _rounded(y),
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "line": {"color": colour, "width": width, "dash": dash},
        "hovertemplate": f"epoch %{{x:.3g}}: %{{y:.4f}}<extra>{hover}</extra>",
    }


def _marks(
    points: Sequence[tuple[float, float]], colour: str, name: str, symbol: str, about: list[str]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": _rounded([x for x, _ in points]),
        "y": _rounded([y for _, y in points]),
        "name": name,
        "marker": {"color": colour, "symbol": symbol, "size": 10, "line": {"color": "--ground", "width": 1.5}},
        "text": about,
        "hovertemplate": "epoch %{x:.3g}: %{y:.4f}<extra>%{text}</extra>",
    }


def _faint(trial: DrawnTrial, legend: bool) -> dict[str, Any]:
    line = _line(trial.epochs_E, trial.validation_E, "--muted", "other configurations, validation", legend, width=1)
    return line | {"opacity": 0.45, "hovertemplate": f"epoch %{{x:.3g}}: %{{y:.4f}}<extra>{_about(trial)}</extra>"}


def _stop_marks(trials: Sequence[DrawnTrial], colour: str) -> Iterator[dict[str, Any]]:
    symbols = {"completed": "circle-open", "overfit": "x", "diverged": "triangle-up", "plateau": "square"}
    for reason in dict.fromkeys(str(trial.stop_reason) for trial in trials):
        ended = [trial for trial in trials if trial.stop_reason == reason]
        points = [(trial.epochs_E[-1], trial.validation_E[-1]) for trial in ended]
        symbol = symbols.get(reason, "diamond")
        yield _marks(points, colour, STOP_WORDS[reason], symbol, [_about(trial) for trial in ended])


def _about(trial: DrawnTrial) -> str:
    settings = "<br>".join(f"{html.escape(str(k))} = {html.escape(_short(v))}" for k, v in trial.settings.items())
    return f"seed {trial.repeat}, {html.escape(trial.trial_id)}<br>{settings}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rounded(values: Sequence[float] | Any) -> list[float | None]:
    return [float(f"{value:.6g}") if value == value else None for value in values]


def _layout(y_title: str, first: float, last: float) -> dict[str, Any]:
    ticks = [m * 10**p for p in range(-3, 7) for m in (1, 2, 5) if first * 0.99 <= m * 10**p <= last * 1.01]
    axis = {
        "gridcolor": "--grid",
        "linecolor": "--muted",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "--muted",
    }
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--text", "size": 13},
        "margin": {"l": 58, "r": 12, "t": 8, "b": 52},
        "hoverlabel": {"bgcolor": "--ground", "bordercolor": "--muted", "font": {"color": "--text"}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        "xaxis": axis | {
            "type": "log",
            "title": {"text": "epochs over the unique tokens"},
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        "yaxis": axis | {"title": {"text": y_title}},
    }  # fmt: skip
