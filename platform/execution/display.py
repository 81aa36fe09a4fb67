"""What a user sees of a running study: a live page on a terminal, one plain line an event elsewhere.

The page has a table of what runs, so evaluations are no events there; elsewhere one of them is said now and then.

Showing never disturbs running: what goes wrong here is logged once, and the display is off from then on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import accumulate

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from crossover.platform.execution.view import Event, StratumView, StudyView, TrialState, TrialView

__all__ = ["StudyDisplay", "duration", "render"]

_log = logging.getLogger(__name__)
_MAX_RUNNING = 12
_MAX_EVENTS = 6
_DETAIL_SECONDS = 10.0
_FIXED_LINES = 9  # headings, what is left out, and the footer
_NUMBERS_WIDTH = 55  # of the columns beside the name
_RUNGS_WIDTH = 20
_WIDTH_FOR_RUNGS = 100


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
        self._detail_shown = -_DETAIL_SECONDS
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
            self._live.update(render(self._view, self._console.size), refresh=True)
            return
        new = self._view.num_events - self._shown_events
        self._shown_events = self._view.num_events
        for event in list(self._view.events)[-new:] if new else ():
            if event.detail and event.time - self._detail_shown < _DETAIL_SECONDS:
                continue
            self._detail_shown = event.time if event.detail else self._detail_shown
            line = f"{_clock(event.time)} {self._view.fraction:4.0%} {event.text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def render(view: StudyView, size: ConsoleDimensions | None = None) -> RenderableType:
    """The whole page.

    Args:
        view: what to show.
        size: width and height there are; None: as much as is needed.
    """
    width, height = size or (10_000, 10_000)
    lines = height - _FIXED_LINES
    with_rungs = width >= _WIDTH_FOR_RUNGS and any(stratum.past_rungs for stratum in view.strata.values())
    width -= _RUNGS_WIDTH if with_rungs else 0
    num_running = _fitting([trial.name for trial in view.running[:_MAX_RUNNING]], width, lines // 3)
    lines -= sum(_height(trial.name, width) for trial in view.running[:num_running])
    strata = sorted(view.strata.values(), key=lambda stratum: stratum.count("running") == 0)
    strata = strata[: _fitting([stratum.label for stratum in strata], width, lines - 2)]
    lines -= sum(_height(stratum.label, width) for stratum in strata)
    parts: list[RenderableType] = [_strata(view, [s for s in view.strata.values() if s in strata], with_rungs)]
    if view.running:
        parts.append(_running(view, num_running, with_rungs))
    if events := [event for event in view.events if not event.detail]:
        parts.append(_events(events[-max(1, min(_MAX_EVENTS, lines)) :]))
    parts.append(_footer(view))
    return Group(*parts)


def _height(name: str, width: int) -> int:
    return -(-len(name) // max(1, width - _NUMBERS_WIDTH - 8))  # words are kept whole: some room is lost


def _fitting(names: Sequence[str], width: int, lines: int) -> int:
    """How many of the rows fit, at least one."""
    heights = accumulate(_height(name, width) for name in names)
    return max(1, sum(height <= lines for height in heights))


def _table(first: str, *others: str) -> Table:
    """Others keep their width; where there is little room, the first column is folded."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, no_wrap=True, justify="left" if name == "doing" else "right")
    return table


def _strata(view: StudyView, shown: Sequence[StratumView], with_rungs: bool) -> Table:
    """Those that wait include those that wait for a worker to go on."""
    rungs = ("cohort", "past its rungs") if with_rungs else ()
    table = _table(f"study {view.name}", "done", "runs", "wait", "failed", "of", *rungs, "best bits/byte")
    for stratum in shown:
        states: tuple[TrialState, ...] = ("done", "running", "paused", "failed")
        counts = [str(stratum.count(state)) for state in states] + [str(stratum.num_planned)]
        if with_rungs:
            counts += [str(len(stratum.cohorts) or "-"), " > ".join(map(str, stratum.past_rungs)) or "-"]
        table.add_row(Text(stratum.label), *counts, _best(stratum.best) if stratum.best else "-")
    if len(shown) < len(view.strata):
        table.add_row(f"... and {len(view.strata) - len(shown)} more")
    return table


def _running(view: StudyView, limit: int, with_rungs: bool) -> Table:
    rungs = ("past rung",) if with_rungs else ()
    table = _table("running", *rungs, "epoch", "done", "tokens/s", "val", "best", "doing")
    for trial in view.running[:limit]:
        table.add_row(
            Text(trial.name),
            *((str(trial.rung or "-"),) if with_rungs else ()),
            _number(trial.epoch, ".1f"),
            f"{trial.fraction:.0%}",
            _number(trial.tokens_per_second, ",.0f"),
            _number(trial.last, ".4f"),
            _number(trial.best, ".4f"),
            trial.activity or "starting",
        )
    if len(view.running) > limit:
        table.add_row(f"... and {len(view.running) - limit} more")
    return table


def _events(events: Sequence[Event]) -> RenderableType:
    lines = [f"{_clock(event.time)} {event.text}" for event in events]
    return Group(*(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines))


def _footer(view: StudyView) -> RenderableType:
    left = None if view.stopping else view.seconds_left()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    bar = Progress(*columns, auto_refresh=False)
    bar.add_task("all trials", total=1000, completed=round(1000 * view.fraction))
    ends = ", ".join(f"{count} {reason}" for reason, count in view.ends.most_common())
    promoted = sum(trial.is_promoted for trial in view.trials)
    standing = [f"ended: {ends}" if ends else "", f"{promoted} promoted, waiting for a worker" if promoted else ""]
    words = [f"at most about {duration(left)} left" if left is not None else "", view.budget or "", view.stopping or ""]
    texts = ("; ".join(word for word in line if word) for line in (standing, words))
    return Group(bar, *(Text(text, overflow="fold") for text in texts if text))


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
