"""What a curve says under the mouse, escaped: plotly reads it as markup."""

from __future__ import annotations

import html

from crossover.platform.analysis.curves import DrawnTrial
from crossover.platform.analysis.figures.documents import short
from crossover.platform.analysis.palette import LIGHT

__all__ = ["about", "count_note", "ink"]


def about(trial: DrawnTrial) -> str:
    """Which trial it is, with its settings."""
    settings = "<br>".join(f"{html.escape(str(k))} = {html.escape(short(v))}" for k, v in trial.settings.items())
    return f"seed {trial.repeat}, {html.escape(trial.trial_id)}<br>{settings}"


def count_note(kept: int, total: int, what: str) -> str:
    """What was left out of a panel, or nothing."""
    return "" if kept >= total else f"{kept:,} of {total:,} {what} are drawn, evenly from the best to the worst."


def ink(objective: str) -> str:
    """The colour of an objective: those that have none of their own share one."""
    return f"--{objective}" if objective in LIGHT else "--other_objective"
