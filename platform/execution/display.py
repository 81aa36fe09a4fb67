"""What a user sees of a running study: a live page on a terminal, one plain line an event elsewhere.

Showing never disturbs running: what goes wrong here is logged once, and the display is off from then on.
"""

from __future__ import annotations

import logging
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from crossover.platform.execution.view import StudyView, TrialView

__all__ = ["StudyDisplay", "duration", "render", "trials_table"]

_log = logging.getLogger(__name__)
_MAX_RUNNING = 12
_MAX_EVENTS = 6


class StudyDisplay:
    """Shows a view, again and again.

    Args:
        view: what to show; somebody else changes it.
        console: where.
        interval_seconds: least time between two looks.
    """

    def __init__(self, view: StudyView, console: Console, interval_seconds: float = 0.5) -> None:
        self._view = view
        self._console = console
        self._interval = interval_seconds
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        self._shown_events = view.num_events
        self._shown = 0.0
        self._works = True

    def start(self) -> None:
        """Begins to show."""
        if self._live is not None:
            self._live.start()
        self.update(force=True)

    def update(self, *, force: bool = False) -> None:
        """Shows the view as it is now, unless it was shown just before. Never raises."""
        now = time.monotonic()
        if not self._works or (not force and now - self._shown < self._interval):
            return
        self._shown = now
        try:
            self._show()
        except Exception:  # whatever a terminal can do wrong, the study goes on
            self._works = False
            _log.exception("the display is off from here on; the study goes on")

    def stop(self) -> None:
        """Shows the last state and leaves the terminal as it was."""
        self.update(force=True)
        if self._live is not None:
            self._live.stop()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(render(self._view), refresh=True)
            return
        new = self._view.num_events - self._shown_events
        self._shown_events = self._view.num_events
        for when, text in list(self._view.events)[-new:] if new else ():
            self._console.print(f"{_clock(when)} {self._view.fraction:4.0%} {text}", markup=False, soft_wrap=True)


def render(view: StudyView) -> RenderableType:
    """The whole page."""
    parts: list[RenderableType] = [_strata(view)]
    if view.running:
        parts.append(_running(view))
    if view.events:
        parts.append(_events(view))
    parts.append(_footer(view))
    return Group(*parts)


def trials_table(view: StudyView) -> Table:
    """Every trial that was made, one line each."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "trial", "state", "epoch", "best bits/byte", "why it stopped"):
        table.add_column(name, no_wrap=name in ("id", "state", "epoch", "best bits/byte"), overflow="fold")
    for trial in view.trials:
        reason = Text(f"{trial.stop_reason}: {trial.evidence}" if trial.stop_reason else "")
        epoch = _number(trial.epoch, ".1f")
        table.add_row(trial.trial_id, Text(trial.name), trial.state, epoch, _best(trial), reason)
    return table


def _strata(view: StudyView) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"study {view.name}", no_wrap=True)
    for name in ("done", "running", "failed", "planned"):
        table.add_column(name, justify="right")
    table.add_column("best bits/byte so far")
    for stratum in view.strata.values():
        best = stratum.best
        table.add_row(
            Text(stratum.label),
            str(stratum.count("done")),
            str(stratum.count("running")),
            str(stratum.count("failed")),
            str(stratum.num_planned),
            _best(best) if best else "-",
        )
    return table


def _running(view: StudyView) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("running", "epoch", "of its run", "tokens/s", "val bits/byte", "best", "doing"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("running", "doing") else "right")
    for trial in view.running[:_MAX_RUNNING]:
        table.add_row(
            Text(trial.name),
            _number(trial.epoch, ".1f"),
            f"{trial.fraction:.0%}",
            _number(trial.tokens_per_second, ",.0f"),
            _number(trial.last, ".4f"),
            _number(trial.best, ".4f"),
            trial.activity or "starting",
        )
    if len(view.running) > _MAX_RUNNING:
        table.add_row(f"... and {len(view.running) - _MAX_RUNNING} more")
    return table


def _events(view: StudyView) -> RenderableType:
    lines = [Text(f"{_clock(when)} {text}", style="dim") for when, text in list(view.events)[-_MAX_EVENTS:]]
    return Group(*lines)


def _footer(view: StudyView) -> RenderableType:
    left = view.seconds_left()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    bar = Progress(*columns, auto_refresh=False)
    bar.add_task("all trials", total=1000, completed=round(1000 * view.fraction))
    words = [f"at most about {duration(left)} left" if left is not None else "", view.budget or "", view.stopping or ""]
    return Group(bar, Text("; ".join(word for word in words if word), overflow="fold"))


def _best(trial: TrialView) -> str:
    if trial.best is None:
        return "-"
    return f"{trial.best:.4f}" + (f" ± {trial.best_se:.4f}" if trial.best_se is not None else "")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when))


def duration(seconds: float) -> str:
    """3 h 05 min, 12 min, 40 s."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
