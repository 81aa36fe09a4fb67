"""How trials were halved: who came to which rung with what, who went on, and why the others did not.

From the decision log alone: a paused leg says the value that its trial came with, a rung's line what was decided.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossover.platform.analysis.figures.documents import Document, layout, line, marks
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import count_note, ink
from crossover.platform.analysis.figures.registry import MAX_PANELS, Drawing, Panel, register_figure
from crossover.platform.analysis.figures.thinning import curves_a_panel, evenly
from crossover.platform.execution.decisions import LegEnded, RungDecided, read_decisions

__all__ = ["halving"]

_NONE = "This study has no rungs, or nothing was decided at one: every trial had its whole budget."


@dataclass(frozen=True)
class _Step:
    """A trial at a rung."""

    rung: int
    value: float
    action: str
    reason: str


@register_figure(
    "halving",
    title="Who went on at each rung, and why",
    caption="Best validation so far of every trial that came to a rung, and at the right what those that went on ended "
    "with. Crosses: not continued, with the rule's reason under the mouse and in the table of trials.",
)
def halving(findings: Findings) -> Drawing:
    """The halving tree, a panel a stratum."""
    if findings.tables.study.search.scheduler == "none":
        return Drawing((), (_NONE,))
    strata: dict[str, dict[str, list[_Step]]] = defaultdict(dict)
    for trial_id, steps in _steps(findings).items():
        strata[findings.tables.files[trial_id].suggestion.made.stratum_label][trial_id] = steps
    limit = curves_a_panel(min(len(strata), MAX_PANELS))
    ends = dict(zip(*(findings.tables.trials[c].to_pylist() for c in ("trial_id", "best_bits_per_byte")), strict=True))
    panels = [_panel(label, trials, ends, findings, limit) for label, trials in strata.items()]
    return Drawing.of(panels, "" if panels else _NONE)


def _steps(findings: Findings) -> dict[str, list[_Step]]:
    """Of each trial, the last decision at each rung that it came to with a known value."""
    values: dict[str, float] = {}
    found: dict[str, dict[int, _Step]] = defaultdict(dict)
    for decision in read_decisions(findings.tables.path):
        if isinstance(decision, LegEnded) and decision.value is not None:
            values[decision.trial_id] = decision.value
        elif isinstance(decision, RungDecided):
            for one in decision.decisions:
                before = found[one.trial_id].get(one.rung)
                value = before.value if before else values.get(one.trial_id)
                if value is not None and one.trial_id in findings.tables.files:
                    found[one.trial_id][one.rung] = _Step(one.rung, value, one.action, one.reason)
    return {trial_id: [steps[rung] for rung in sorted(steps)] for trial_id, steps in found.items() if steps}


def _panel(
    label: str, trials: Mapping[str, Sequence[_Step]], ends: Mapping[str, float | None], findings: Findings, limit: int
) -> Panel:
    facts = (findings.tables.files[trial_id].facts for trial_id in trials)
    objective = next((known.objective for known in facts if known), "autoregressive")
    ordered = sorted(trials, key=lambda trial_id: (-len(trials[trial_id]), trials[trial_id][-1].value))
    kept = evenly(ordered, limit)
    last = 1 + max(step.rung for steps in trials.values() for step in steps)
    ticks = {"tickvals": list(range(last + 1)), "ticktext": [*(f"rung {rung + 1}" for rung in range(last)), "end"]}
    document = {
        "data": list(_traces({trial_id: trials[trial_id] for trial_id in kept}, ends, last, ink(objective))),
        "layout": layout(
            ticks | {"range": [-0.2, last + 0.2]}, {"title": {"text": "best validation so far, bits per byte"}}
        ),
    }
    stopped = sum(steps[-1].action in ("stop", "pause") for steps in trials.values())
    note = count_note(len(kept), len(ordered), "trials")
    return Panel(
        label, document, f"{len(trials):,} trials came to a rung, {stopped:,} were not continued. {note}".strip()
    )


def _traces(
    trials: Mapping[str, Sequence[_Step]], ends: Mapping[str, float | None], last: int, colour: str
) -> Iterator[Document]:
    went_on: dict[bool, list[str]] = {True: [], False: []}
    for trial_id, steps in trials.items():
        went_on[steps[-1].action in ("continue", "promote")].append(trial_id)
    for kept, name in ((False, "not continued"), (True, "went on to the end")):
        for place, trial_id in enumerate(went_on[kept]):
            points = [(float(step.rung), step.value) for step in trials[trial_id]]
            end = ends.get(trial_id)
            points += [(float(last), end)] if kept and end is not None else []
            yield line([x for x, _ in points], [y for _, y in points], colour if kept else "--muted", name,
                       legend=place == 0, width=2 if kept else 1, opacity=1 if kept else 0.6,
                       hover=html.escape(trial_id))  # fmt: skip
    stops = [(trial_id, trials[trial_id][-1]) for trial_id in went_on[False]]
    if stops:
        about = [f"{html.escape(trial_id)}<br>{html.escape(step.reason)}" for trial_id, step in stops]
        points = [(float(step.rung), step.value) for _, step in stops]
        yield marks(points, "--muted", "not continued, with its reason", "x", about, size=8)
