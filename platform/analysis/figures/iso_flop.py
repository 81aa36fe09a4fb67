"""Lowest loss of each size at equal compute: where size stops to pay.

Every trial of a size counts, of whatever configuration: with at most C FLOPs its best so far is what it had. So a size
that was searched less looks worse than it is, and the panel says how many trials each size has.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.figures.documents import Document, layout, line, marks, words
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import ink
from crossover.platform.analysis.figures.registry import Drawing, Panel, register_figure
from crossover.platform.analysis.tables import TrialFiles
from crossover.platform.analysis.wording import SHORT, amount

__all__ = ["iso_flop"]

Floats = NDArray[np.float64]
_NUM_LEVELS = 5
_NONE = "isoFLOP curves are not identified: no setting has two sizes whose trials overlap in FLOPs."


@dataclass(frozen=True)
class _Size:
    """The trials of one size: FLOPs and best so far of each."""

    params: int
    curves: tuple[tuple[Floats, Floats], ...]

    @property
    def first(self) -> float:
        """FLOPs of its earliest evaluation."""
        return float(min(flops[0] for flops, _ in self.curves))

    @property
    def last(self) -> float:
        """FLOPs of its latest."""
        return float(max(flops[-1] for flops, _ in self.curves))

    def best_within(self, flops: float) -> float:
        """Lowest loss with at most so many FLOPs; NaN where no trial was evaluated by then."""
        reached = [(x, y) for x, y in self.curves if x[0] <= flops]
        return min((float(y[np.searchsorted(x, flops, "right") - 1]) for x, y in reached), default=math.nan)


@register_figure(
    "iso-flop",
    title="Size at equal compute",
    caption="Lowest validation loss that any trial of a size had reached with at most so many training FLOPs; the "
    "darker, the more. Ringed: the best size at each. Two sizes show which is better, and not where the minimum is.",
)
def iso_flop(findings: Findings) -> Drawing:
    """Loss against parameters at equal FLOPs, a panel an objective and setting."""
    panels = [
        _panel(json.loads(setting), objective, sizes)
        for (setting, objective), sizes in _groups(findings).items()
        if len(sizes) > 1 and _levels(sizes)
    ]
    return Drawing.of(panels, "" if panels else _NONE)


def _groups(findings: Findings) -> dict[tuple[str, str], list[_Size]]:
    found: dict[tuple[str, str], dict[int, list[tuple[Floats, Floats]]]] = defaultdict(lambda: defaultdict(list))
    for trial in findings.tables.files.values():
        curve = _curve(trial)
        if trial.facts and curve:
            stratum = trial.suggestion.made.stratum.items()
            setting = {k: v for k, v in stratum if k != "objective.name" and not k.startswith("model.")}
            found[json.dumps(setting), trial.facts.objective][trial.facts.num_params_active].append(curve)
    return {key: [_Size(n, tuple(curves)) for n, curves in sorted(sizes.items())] for key, sizes in found.items()}


def _curve(trial: TrialFiles) -> tuple[Floats, Floats] | None:
    finite = np.isfinite(trial.values("val_loss"))
    if not finite.any():
        return None
    return trial.values("train_flops")[finite], np.minimum.accumulate(trial.values("val_bits_per_byte")[finite])


def _levels(sizes: Sequence[_Size]) -> list[float]:
    """FLOPs at which two sizes or more have been evaluated, and the larger are not all still beginning."""
    low, high = sorted(size.first for size in sizes)[1] * 1.2, sorted(size.last for size in sizes)[-2]
    return [float(level) for level in np.geomspace(low, high, _NUM_LEVELS)] if low < high else []


def _panel(setting: Mapping[str, object], objective: str, sizes: Sequence[_Size]) -> Panel:
    colour, traces, ends, shown = ink(objective), list[Document](), list[tuple[str, float, float]](), list[float]()
    levels = _levels(sizes)
    for place, level in enumerate(levels):
        points = [(size.params, size.best_within(level)) for size in sizes]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        opacity = 0.35 + 0.65 * place / (len(levels) - 1)
        x, y = [x for x, _ in points], [y for _, y in points]
        name = f"{SHORT.get(objective, objective)}, {amount(level)} FLOPs"
        traces.append(line(x, y, colour, name, legend=False, width=2, hover=name, opacity=opacity))
        traces.append(marks(points, colour, name, "circle", [name] * len(x), legend=False, size=8, opacity=opacity))
        best = min(points, key=lambda point: point[1])
        traces.append(
            marks([best], "--text", "best size at these FLOPs", "circle-open", [name], legend=place == 0, size=14)
        )
        ends.append((f"{amount(level)} FLOPs", math.log10(x[-1]), y[-1]))
        shown += y
    first, last = sizes[0].params, sizes[-1].params
    reach = math.log10(last / first)
    ticks = {
        "type": "log",
        "tickvals": [size.params for size in sizes],
        "ticktext": [amount(size.params) for size in sizes],
    }
    across = ticks | {"range": [math.log10(first) - 0.08 * reach, math.log10(last) + 0.3 * reach]}
    margin = 0.08 * (max(shown) - min(shown)) or 0.05
    document = layout(
        across | {"title": {"text": "parameters in matrix products"}},
        {"title": {"text": "best validation, bits per byte"}, "range": [min(shown) - margin, max(shown) + margin]},
    )
    document["annotations"] = _labels(ends, colour, 0.07 * (max(shown) - min(shown)))
    where = ", ".join(f"{key} = {value}" for key, value in setting.items())
    title = SHORT.get(objective, objective) + (f" ({where})" if where else "")
    counts = ", ".join(f"{amount(size.params)}: {len(size.curves)}" for size in sizes)
    return Panel(title, {"data": traces, "layout": document}, f"trials of each size: {counts}", 400)


def _labels(ends: Sequence[tuple[str, float, float]], colour: str, apart: float) -> list[Document]:
    """Words at the end of each level from the highest on, those left out that would lie on one another."""
    kept: list[tuple[str, float, float]] = []
    for end in reversed(ends):
        if all(abs(end[2] - other[2]) >= apart for other in kept):
            kept.append(end)
    return [words(text, x, y, colour, yref="y", size=11, xanchor="left", xshift=8) for text, x, y in kept]
