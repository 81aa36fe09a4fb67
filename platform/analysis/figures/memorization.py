"""Memorization against epochs, as far as it was measured (`evaluation.memorization_pieces`)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow.compute as pc

from crossover.platform.analysis.figures.documents import Document, layout, line, log_ticks
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.registry import Drawing, Panel, register_figure
from crossover.platform.analysis.palette import LIGHT
from crossover.platform.analysis.wording import SHORT, without_objective

__all__ = ["memorization"]

_DASHES = ("solid", "dash", "dot")  # of the strata of one objective; its colour tells objectives apart
Rows = dict[str, list[dict[str, Any]]]  # by trial, oldest first


@register_figure(
    "memorization",
    title="Memorization",
    caption="Can training text be told from held-out text by its loss (left; 0.5 is chance), and is it given back from "
    "its beginning (right; thin lines: held-out text, which needs no memory)? A line is a trial, a dash a stratum.",
)
def memorization(findings: Findings) -> Drawing:
    """Membership inference and reproduced text, a line a trial."""
    curves: Rows = defaultdict(list)
    evaluations = findings.tables.evaluations
    if "memorization_auc" in evaluations.column_names:
        for row in evaluations.filter(pc.is_valid(evaluations["memorization_auc"])).to_pylist():
            curves[row["trial_id"]].append(row)
    if not curves:
        return Drawing((), ("Memorization was not measured: set evaluation.memorization_pieces.",))
    trials = {row["trial_id"]: row for row in findings.tables.trials.to_pylist() if row["trial_id"] in curves}
    strata: dict[str, list[str]] = defaultdict(list)
    for row in trials.values():
        if row["stratum"] not in strata[row["objective"]]:
            strata[row["objective"]].append(row["stratum"])
    looks, names = {}, {}
    for trial, row in trials.items():
        objective, place = row["objective"], strata[row["objective"]].index(row["stratum"])
        looks[trial] = (_colour(objective), _DASHES[place % len(_DASHES)])
        rest = without_objective(row["stratum"])
        names[trial] = f"{SHORT.get(objective, objective)}: {rest}" if rest else SHORT.get(objective, objective)
    return Drawing.of(
        [
            _panel("Told from held-out text", "AUC of membership", curves, looks, names, {"memorization_auc": 2.0}),
            _panel(
                "Given back from its beginning",
                "share of sequences",
                curves,
                looks,
                names,
                {"reproduced_fraction": 2.0, "reproduced_held_out_fraction": 0.8},
            ),
        ]
    )


def _colour(objective: str) -> str:
    return f"--{objective}" if objective in LIGHT else "--text"


def _panel(
    title: str,
    unit: str,
    curves: Rows,
    looks: dict[str, tuple[str, str]],
    names: dict[str, str],
    columns: dict[str, float],
) -> Panel:
    traces, shown = [], set()
    for trial, rows in curves.items():
        for column, width in columns.items():
            legend = width > 1 and names[trial] not in shown
            shown.add(names[trial])
            colour, dash = looks[trial]
            epochs, values = ([row[key] for row in rows] for key in ("epoch", column))
            traces.append(
                line(epochs, values, colour, names[trial], legend=legend, width=width, dash=dash, hover=names[trial])
            )
    epochs = [row["epoch"] for rows in curves.values() for row in rows]
    low = 0.4 if "memorization_auc" in columns else 0.0
    document: Document = {
        "data": traces,
        "layout": layout(
            log_ticks(min(epochs), max(epochs)) | {"title": {"text": "epochs over the unique tokens"}},
            {"title": {"text": unit}, "range": [low, 1.02]},
        ),
    }
    return Panel(title, document)
