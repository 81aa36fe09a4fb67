"""Validation and training loss of every trial, the chosen configuration's in front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from crossover.platform.analysis.curves import DrawnObjective, DrawnTrial
from crossover.platform.analysis.figures.documents import Document, layout, line, log_ticks, marks
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import about, count_note
from crossover.platform.analysis.figures.registry import MAX_PANELS, Drawing, Panel, register_figure
from crossover.platform.analysis.figures.thinning import curves_a_panel, evenly, kept_points
from crossover.platform.analysis.palette import STOP_WORDS
from crossover.platform.analysis.wording import SHORT

__all__ = ["loss_epochs"]

_SYMBOLS = {"completed": "circle-open", "overfit": "x", "diverged": "triangle-up", "plateau": "square"}


@register_figure(
    "loss-epochs",
    title="Validation and training loss",
    caption="Nats per token of the averaged weights (validation) and of the running model with its dropout, mean since "
    "the evaluation before (training). Bold curves are the seeds of the chosen configuration, grey ones other "
    "configurations; marks show where and why each ended.",
)
def loss_epochs(findings: Findings) -> Drawing:
    """Loss against epochs, a panel a setting and objective."""
    drawn = [(pair.answer.title, objective) for pair in findings.pairs for objective in pair.objectives]
    limit = curves_a_panel(min(len(drawn), MAX_PANELS))
    return Drawing.of([_panel(title, objective, limit) for title, objective in drawn])


def _panel(title: str, objective: DrawnObjective, limit: int) -> Panel:
    others = evenly(objective.others, limit)
    note = count_note(len(others), len(objective.others), "other trials")
    trials = f"{len(objective.trials):,} trial{'s' if len(objective.trials) > 1 else ''}"
    document = {"data": list(_traces(objective, others)), "layout": _layout(objective, others)}
    return Panel(f"{SHORT[objective.name]}: {title}", document, f"{trials}. {note}".strip(), 400)


def _traces(objective: DrawnObjective, others: Sequence[DrawnTrial]) -> Iterator[Document]:
    for trial in others:
        kept = kept_points(len(trial.epochs_E), trial.best)
        yield line(trial.epochs_E[kept], trial.validation_E[kept], "--muted", "other configurations, validation",
                   legend=trial is others[0], width=1, hover=about(trial), opacity=0.4, digits=5)  # fmt: skip
    colour, name = f"--{objective.name}", SHORT[objective.name]
    for seed in objective.seeds:
        first, hover = seed is objective.seeds[0], about(seed)
        yield line(seed.epochs_E, seed.validation_E, colour, f"{name} validation", legend=first, width=2.2, hover=hover)
        yield line(seed.epochs_E, seed.training_E, colour, f"{name} training", legend=first, dash="dot", hover=hover)
    yield from _ends(others, "--muted", chosen=False)
    yield from _ends(objective.seeds, colour, chosen=True)


def _ends(trials: Sequence[DrawnTrial], colour: str, *, chosen: bool) -> Iterator[Document]:
    """Where trials ended, a mark a reason; only the chosen ones are in the legend."""
    ended = [trial for trial in trials if trial.stop_reason]
    for reason in dict.fromkeys(str(trial.stop_reason) for trial in ended):
        these = [trial for trial in ended if trial.stop_reason == reason]
        points = [(trial.epochs_E[-1], trial.validation_E[-1]) for trial in these]
        labels = [about(trial) for trial in these]
        symbol, size, opacity = _SYMBOLS.get(reason, "diamond"), 10 if chosen else 7, 1.0 if chosen else 0.7
        yield marks(points, colour, STOP_WORDS[reason], symbol, labels, legend=chosen, size=size, opacity=opacity)


def _layout(objective: DrawnObjective, others: Sequence[DrawnTrial]) -> Document:
    first = min(t.epochs_E[0] for t in objective.seeds)
    last = max(t.epochs_E[-1] for t in (*objective.seeds, *others))
    values = np.concatenate([part for t in objective.seeds for part in (t.validation_E, t.training_E)])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 0.1
    return layout(
        log_ticks(float(first), float(last)) | {"title": {"text": "epochs over the unique tokens"}},
        {"title": {"text": "nats per token"}, "range": [low - margin, high + margin]},
    )
