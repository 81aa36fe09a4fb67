"""What each axis does within a stratum: Optuna's importance, and every configuration across all axes at once.

Importance is PED-ANOVA's (Watanabe et al. 2023, arXiv 2304.10255): how far the distribution of an axis among the best
tenth differs from that among all. It needs no forest, takes milliseconds, and says nothing with few configurations.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from crossover.platform.analysis.figures.documents import Document, bars, layout, line, short, words
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import count_note, ink
from crossover.platform.analysis.figures.registry import MAX_PANELS, Drawing, Panel, register_figure
from crossover.platform.analysis.figures.thinning import curves_a_panel, evenly
from crossover.platform.analysis.tables import TrialFiles
from crossover.platform.search.searchers.sources import Replay

__all__ = ["importance", "parallel_coordinates"]

MIN_CONFIGURATIONS = 20
"""Importance compares the best tenth with all: of fewer configurations that is one."""
_GROUPS = 4


@dataclass(frozen=True)
class _Tried:
    """One configuration of a stratum: its nuisance settings and its best validation, bits per byte."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    value: float


@register_figure(
    "importance",
    title="Which settings matter",
    caption="PED-ANOVA importance of each nuisance axis within a stratum: how differently the best tenth of the "
    "configurations is distributed along it. Shares of one; what is important where the search looked is not important "
    "everywhere.",
)
def importance(findings: Findings) -> Drawing:
    """Optuna's importance of the axes, a panel a stratum."""
    strata = _tried(findings)
    enough = {key: tried for key, tried in strata.items() if len(tried) >= MIN_CONFIGURATIONS}
    panels = [panel for key, tried in enough.items() if (panel := _importance(*key, tried))]
    most = max(map(len, strata.values()), default=0)
    why = "no axis is searched" if not strata else f"the stratum with the most has {most} configurations"
    none = f"Importance is not identified: it takes {MIN_CONFIGURATIONS} configurations of one stratum, and {why}."
    return Drawing.of(panels, "" if panels else none)


@register_figure(
    "parallel-coordinates",
    title="Settings of every configuration",
    caption="One line a configuration, through its value of each axis to its best validation at the right (bits per "
    "byte, lower is better). Coloured: the best quarter; grey: the others.",
    wide=True,
)
def parallel_coordinates(findings: Findings) -> Drawing:
    """Every configuration across the axes, a panel a stratum."""
    strata = {key: tried for key, tried in _tried(findings).items() if len(tried) > 1}
    limit = curves_a_panel(min(len(strata), MAX_PANELS))
    panels = [_parallel(*key, tried, limit) for key, tried in strata.items()]
    return Drawing.of(panels, "" if panels else "No stratum has two configurations with an evaluation.")


def _tried(findings: Findings) -> dict[tuple[str, str], list[_Tried]]:
    """Configurations by stratum (label, objective), those of strata with nuisance axes; the first repeat of each."""
    study = findings.tables.study
    strata = {stratum.label: stratum for stratum in study.strata()}
    found: dict[tuple[str, str], list[_Tried]] = defaultdict(list)
    for trial in findings.tables.files.values():
        made, value = trial.suggestion.made, _best(trial)
        if made.repeat or not made.settings or value is None or made.stratum_label not in strata or not trial.facts:
            continue
        replay = Replay(made.settings)
        study.space.suggest(strata[made.stratum_label], replay, None)
        found[made.stratum_label, trial.facts.objective].append(_Tried(replay.params, replay.distributions, value))
    return found


def _best(trial: TrialFiles) -> float | None:
    finite = np.isfinite(trial.values("val_loss"))
    return min(trial.values("val_bits_per_byte")[finite].tolist(), default=None)


def _importance(label: str, objective: str, tried: Sequence[_Tried]) -> Panel | None:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
        study.add_trials(
            optuna.trial.create_trial(params=dict(t.params), distributions=dict(t.distributions), value=t.value)
            for t in tried
        )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    if not found:
        return None
    names, values = list(found)[::-1], list(found.values())[::-1]  # the first bar is drawn lowest
    document = {
        "data": [bars(names, values, ink(objective), "", [f"{value:.0%}" for value in values])],
        "layout": layout({"title": {"text": "importance"}, "range": [0, 1]}, {"showgrid": False}),
    }
    left = len({name for t in tried for name in t.params}) - len(found)
    also = f"; {left} conditional axes, which not all have, are left out" if left else ""
    return Panel(label, document, f"{len(tried):,} configurations{also}", 130 + 30 * len(names))


def _parallel(label: str, objective: str, tried: Sequence[_Tried], limit: int) -> Panel:
    ordered = sorted(tried, key=lambda t: t.value)
    kept = evenly(ordered, limit)
    names = list(dict.fromkeys(name for t in tried for name in t.params))
    axes = [_Axis.of(name, tried) for name in names]
    values = np.array([t.value for t in tried])
    goal = _Axis("best validation", float(values.min()), float(values.max()), is_log=False)
    traces = _lines(kept, axes, goal, ink(objective))
    document = layout(
        {"range": [-0.25, len(axes) + 0.35], "tickvals": list(range(len(axes) + 1)), "showgrid": False,
         "ticktext": [axis.name for axis in (*axes, goal)]},
        {"range": [-0.08, 1.06], "showgrid": False, "tickvals": [], "ticktext": [], "showline": False},
    )  # fmt: skip
    for place, axis in enumerate((*axes, goal)):
        line_ = {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "xref": "x", "yref": "y", "layer": "below",
                 "line": {"color": "--muted", "width": 1}}  # fmt: skip
        document["shapes"].append(line_)
        for text, height in axis.labels():
            beside = words(text, place, height, yref="y", size=11, xanchor="left", xshift=5)
            document["annotations"].append(beside | {"bgcolor": "--ground"})
    note = count_note(len(kept), len(ordered), "configurations")
    words_ = f"{len(ordered):,} configurations. {note}".strip()
    return Panel(label, {"data": traces, "layout": document}, words_, 380)


def _lines(kept: Sequence[_Tried], axes: Sequence[_Axis], goal: _Axis, colour: str) -> list[Document]:
    """A trace with gaps of each quarter, the best one last and in front."""
    bounds = [round(place * len(kept) / _GROUPS) for place in range(_GROUPS + 1)]
    quarters = [kept[start:end] for start, end in pairwise(bounds)]
    quarters[0] = quarters[0] or kept[:1]
    traces: list[Document] = []
    for place, quarter in reversed(list(enumerate(quarters))):
        x: list[float] = []
        y: list[float] = []
        for tried in quarter:
            x += [*range(len(axes) + 1), math.nan]
            y += [*(axis.place(tried.params.get(axis.name)) for axis in axes), goal.place(tried.value), math.nan]
        name = "other configurations" if place else "best quarter"
        style = ("--muted", 1.0, 0.5) if place else (colour, 1.6, 0.95)
        known = any(trace["name"] == name for trace in traces)
        if quarter:
            traces.append(line(x, y, style[0], name, legend=not known, width=style[1], opacity=style[2], digits=4))
    return traces


@dataclass(frozen=True)
class _Axis:
    """Where values lie on a vertical axis from 0 to 1."""

    name: str
    low: float
    high: float
    is_log: bool
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, name: str, tried: Sequence[_Tried]) -> _Axis:
        distribution = next(t.distributions[name] for t in tried if name in t.distributions)
        values = [t.params[name] for t in tried if name in t.params]
        if isinstance(distribution, CategoricalDistribution):
            return cls(name, 0, 0, is_log=False, choices=tuple(v for v in distribution.choices if v in values))
        return cls(name, float(min(values)), float(max(values)), is_log=bool(getattr(distribution, "log", False)))

    def place(self, value: Any) -> float:
        if value is None:
            return math.nan
        if self.choices:
            return self.choices.index(value) / (len(self.choices) - 1) if len(self.choices) > 1 else 0.5
        low, high, at = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low) if high > low else 0.5

    def labels(self) -> list[tuple[str, float]]:
        """Words beside the axis."""
        if self.choices:
            return [(short(choice), self.place(choice)) for choice in self.choices]
        if self.low == self.high:
            return [(f"{self.low:.3g}", 0.5)]
        middle = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        return [(f"{value:.3g}", self.place(value)) for value in (self.low, middle, self.high)]
