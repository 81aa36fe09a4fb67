"""Validation loss against the gap of tasks: whether what overfits its text still gets better at questions.

The gap is the log-likelihood of the right option less that of the best wrong one: it moves where accuracy stands still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.curves import DrawnObjective, DrawnPair, DrawnTrial
from crossover.platform.analysis.figures.documents import Document, layout, line, marks
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import about, count_note
from crossover.platform.analysis.figures.registry import MAX_PANELS, Drawing, Panel, register_figure
from crossover.platform.analysis.figures.thinning import curves_a_panel, evenly, kept_points
from crossover.platform.analysis.tables import TrialFiles
from crossover.platform.analysis.wording import SHORT

__all__ = ["task_gap"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Path:
    """One trial's way through training: validation in bits per byte, and the gap in nats a question."""

    epochs_E: Floats
    bits_E: Floats
    gap_E: Floats

    @classmethod
    def of(cls, trial: TrialFiles) -> _Path | None:
        """None where fewer than two evaluations have a gap."""
        known = np.isfinite(trial.values("task_gap")) & np.isfinite(trial.values("val_loss"))
        if known.sum() < 2:
            return None
        return cls(*(trial.values(name)[known] for name in ("epoch", "val_bits_per_byte", "task_gap")))

    @property
    def lowest_loss(self) -> int:
        """Evaluation that validation would choose."""
        return int(np.argmin(self.bits_E))

    @property
    def widest_gap(self) -> int:
        """Evaluation that the tasks would choose."""
        return int(np.argmax(self.gap_E))

    def at(self, place: int) -> tuple[float, float]:
        """Its point."""
        return float(self.bits_E[place]), float(self.gap_E[place])


@register_figure(
    "task-gap",
    title="Validation loss against downstream gap",
    caption="A line is a trial, from the right (early) to where it turns: up is better at questions, left is better at "
    "text. Gap: log-likelihood of the right option less that of the best wrong one, mean over questions, by averaged "
    "weights. Dots: lowest loss; diamonds: widest gap. Grey: other configurations.",
)
def task_gap(findings: Findings) -> Drawing:
    """Loss and gap of every evaluation, a panel a setting."""
    found = {trial_id: path for trial_id, trial in findings.tables.files.items() if (path := _Path.of(trial))}
    if not found:
        return Drawing((), ("No questions were asked during training: set evaluation.tasks.",))
    drawn = [pair for pair in findings.pairs if any(s.trial_id in found for o in pair.objectives for s in o.seeds)]
    limit = curves_a_panel(min(len(drawn), MAX_PANELS))
    return Drawing.of([_panel(pair, found, limit) for pair in drawn])


def _panel(pair: DrawnPair, found: Mapping[str, _Path], limit: int) -> Panel:
    measured = [trial for objective in pair.objectives for trial in objective.others if trial.trial_id in found]
    others = evenly(measured, limit)
    turns = ", ".join(words for objective in pair.objectives if (words := _turn(objective, found)))
    left_out = count_note(len(others), len(measured), "other trials")
    document = {
        "data": [
            *_others(others, found),
            *(trace for objective in pair.objectives for trace in _chosen(objective, found)),
        ],
        "layout": layout(
            {"title": {"text": "validation, bits per byte"}, "range": _range(pair, found)},
            {"title": {"text": "gap, nats a question"}},
        ),
    }
    return Panel(pair.answer.title, document, f"epochs of lowest loss and widest gap: {turns}. {left_out}".strip())


def _others(others: Sequence[DrawnTrial], found: Mapping[str, _Path]) -> Iterator[Document]:
    for trial in others:
        path = found[trial.trial_id]
        kept = kept_points(len(path.bits_E), path.lowest_loss)
        yield line(path.bits_E[kept], path.gap_E[kept], "--muted", "other configurations", legend=trial is others[0],
                   width=1, hover=about(trial), opacity=0.4, digits=5)  # fmt: skip


def _chosen(objective: DrawnObjective, found: Mapping[str, _Path]) -> Iterator[Document]:
    colour, name = f"--{objective.name}", SHORT[objective.name]
    seeds = [seed for seed in objective.seeds if seed.trial_id in found]
    paths, hovers = [found[seed.trial_id] for seed in seeds], [about(seed) for seed in seeds]
    for place, path in enumerate(paths):
        yield line(path.bits_E, path.gap_E, colour, name, legend=not place, width=2, hover=hovers[place])
    if paths:
        yield marks([p.at(p.lowest_loss) for p in paths], colour, f"{name}, lowest loss", "circle", hovers)
        yield marks([p.at(p.widest_gap) for p in paths], colour, f"{name}, widest gap", "diamond", hovers)


def _turn(objective: DrawnObjective, found: Mapping[str, _Path]) -> str:
    """When validation and when the tasks would have stopped, medians over seeds."""
    paths = [found[seed.trial_id] for seed in objective.seeds if seed.trial_id in found]
    if not paths:
        return ""
    loss = float(np.median([path.epochs_E[path.lowest_loss] for path in paths]))
    gap = float(np.median([path.epochs_E[path.widest_gap] for path in paths]))
    return f"{SHORT[objective.name]} {loss:.3g} and {gap:.3g}"


def _range(pair: DrawnPair, found: Mapping[str, _Path]) -> list[float]:
    """Of the chosen trials; the end of an overfitting that would flatten them is left out."""
    paths = [found[s.trial_id] for o in pair.objectives for s in o.seeds if s.trial_id in found]
    low = min(float(path.bits_E.min()) for path in paths)
    start = max(float(path.bits_E[0]) for path in paths)
    high = min(max(float(path.bits_E.max()) for path in paths), start + 0.3 * (start - low))
    margin = 0.05 * (high - low) or 0.1
    return [low - margin, high + margin]
