"""What the study cost, and what it was spent on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from crossover.platform.analysis.figures.documents import Document, bars, layout
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.registry import Drawing, Panel, register_figure
from crossover.platform.analysis.wording import amount

__all__ = ["cost"]

_MAX_STRATA = 40
_KINDS = {  # what became of the trials, with a colour
    "chosen configurations": "--envelope",
    "other trials, all epochs done": "--muted",
    "other trials, stopped early": "--equal_epochs",
    "failed or diverged": "--failed",
    "not ended yet": "--soft",
}
Spent = dict[str, dict[str, float]]  # by stratum and kind


@register_figure(
    "cost",
    title="What it cost",
    caption="Training and evaluation of every trial by stratum, and what became of the trials.",
    wide=True,
)
def cost(findings: Findings) -> Drawing:
    """FLOPs and hours by stratum, stacked by what became of the trials."""
    rows = [row for row in findings.tables.trials.to_pylist() if row["train_flops"] is not None]
    if not rows:
        return Drawing((), ("Nothing was trained yet.",))
    chosen = findings.chosen
    flops: Spent = defaultdict(lambda: defaultdict(float))
    hours: Spent = defaultdict(lambda: defaultdict(float))
    for row in rows:
        kind = _kind(row, chosen)
        flops[row["stratum"]][kind] += row["train_flops"] + (row["eval_flops"] or 0.0)
        hours[row["stratum"]][kind] += (row["wall_seconds"] or 0.0) / 3600
    costliest = sorted(flops, key=lambda label: -sum(flops[label].values()))[:_MAX_STRATA]
    kept = [label for label in flops if label in set(costliest)]
    note = f"The {_MAX_STRATA} costliest of {len(flops)} strata." if len(flops) > len(kept) else ""
    power = math.floor(math.log10(max(sum(flops[label].values()) for label in kept) or 1))
    exponent = str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    total_hours = sum(sum(kinds.values()) for kinds in hours.values())
    total_flops = sum(sum(kinds.values()) for kinds in flops.values())
    return Drawing.of(
        [
            _panel("Compute", f"{amount(total_flops)} FLOPs in all", f"10{exponent} FLOPs", flops, kept, 10.0**power),
            _panel("Time", f"{total_hours:.3g} hours of work in all", "hours of work", hours, kept, 1.0),
        ],
        note,
    )


def _kind(row: Mapping[str, object], chosen: set[str]) -> str:
    chosen_, done, early, failed, running = _KINDS
    if row["stop_reason"] in ("failed", "diverged"):
        return failed
    if row["trial_id"] in chosen:
        return chosen_
    if row["stop_reason"] is None:
        return running
    return done if row["stop_reason"] == "completed" else early


def _panel(title: str, subtitle: str, unit: str, spent: Spent, labels: Sequence[str], scale: float) -> Panel:
    most = max(sum(spent[label].values()) for label in labels) or scale
    document: Document = {
        "data": [
            bars(
                labels[::-1],  # the first bar is drawn lowest
                [spent[label].get(kind, 0.0) / scale for label in labels[::-1]],
                colour,
                kind,
                [f"{spent[label].get(kind, 0.0) / scale:.3g} {unit}" for label in labels[::-1]],
            )
            for kind, colour in _KINDS.items()
            if any(kind in spent[label] for label in labels)
        ],
        "layout": layout({"title": {"text": unit}, "range": [0, 1.05 * most / scale]}, {"showgrid": False}),
    }
    return Panel(title, document, subtitle, 150 + 22 * len(labels))
