"""Telling the trackers of a study, in a thread: a slow or lost connection never holds a trial up.

What is told is read from the trials' records, and what was told is noted, so a study that goes on tells what is missing
and nothing twice. A tracker that fails is named once and left alone; the study goes on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.tracking.base import TrackedTrial, Tracker
from crossover.platform.execution.tracking.told import Told
from crossover.platform.execution.tracking.weights_and_biases import WeightsAndBiases, check_wandb
from crossover.platform.execution.view import TrialView
from crossover.platform.study import Study
from crossover.platform.study.model import TrackingConfig
from crossover.trainers.errors import CrossoverError

__all__ = ["Tracking", "check_tracking", "open_tracking"]

_PATIENCE_SECONDS = 60.0  # how long the end of a study waits for what is still to be told


def check_tracking(config: TrackingConfig) -> None:
    """Whether the trackers can be told, before anything starts.

    Raises:
        CrossoverError: what is missing, and what to set.
    """
    check_wandb(config.wandb)


def open_tracking(study: Study, study_dir: Path, results: RecordResults, say: Callable[[str], None]) -> Tracking:
    """The trackers that a study names, which may be none.

    Args:
        study: The study.
        study_dir: Its folder.
        results: The trials' records.
        say: Tells the user that a tracker failed.
    """
    config, folder = study.tracking, study_dir / "tracking"
    if config.wandb == "disabled" and not config.tensorboard:
        return Tracking([], results, None, say)
    told = Told(folder / "told.jsonl")
    trackers: list[Tracker] = []
    if config.wandb != "disabled":
        trackers.append(
            WeightsAndBiases(config.wandb, config.project, config.entity, study.name, told.key, folder / "wandb")
        )
    if config.tensorboard:
        from crossover.platform.execution.tracking.tensorboard import TensorBoard  # a second of imports

        trackers.append(TensorBoard(folder / "tensorboard"))
    return Tracking(trackers, results, told, say)


@dataclass(frozen=True)
class _News:
    """Something has happened to a trial, or to the study."""

    kind: Literal["rows", "left", "report", "stop"]
    trial: TrialView | None = None
    stratum: str = ""
    report: Path | None = None


@dataclass
class Tracking:
    """Tells trackers what the records hold.

    Args:
        trackers: Who is told.
        results: The trials' records.
        told: What was told before; None where there are no trackers.
        say: Tells the user that a tracker failed.
    """

    trackers: Sequence[Tracker]
    results: RecordResults
    told: Told | None
    say: Callable[[str], None]
    _news: queue.SimpleQueue[_News] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def start(self, trials: Iterable[tuple[TrialView, str]]) -> None:
        """Begins with what earlier attempts did not tell: trials, with the label of their stratum."""
        if not self.trackers:
            return
        self.trackers = list(self.trackers)
        self._thread = threading.Thread(target=self._tell, name="tracking", daemon=True)
        self._thread.start()
        self._sweep(trials)

    def row(self, trial: TrialView, stratum: str) -> None:
        """A trial was evaluated."""
        self._news.put(_News("rows", trial, stratum))

    def left(self, trial: TrialView, stratum: str) -> None:
        """A trial has ended, or waits."""
        self._news.put(_News("left", trial, stratum))

    def close(self, trials: Iterable[tuple[TrialView, str]], answered: Path | None) -> None:
        """Tells what is still missing, and waits for that, a minute at most; the rest is told when the study goes on.

        Args:
            trials: Every trial, with the label of its stratum.
            answered: Folder of a study that has an answer: its report is written and told.
        """
        if self._thread is None:
            return
        self._sweep(trials)
        if answered is not None:
            self._news.put(_News("report", report=answered))
        self._news.put(_News("stop"))
        self._thread.join(_PATIENCE_SECONDS)
        if self._thread.is_alive():
            self.say(
                f"tracking: not everything was told within {_PATIENCE_SECONDS:g} s; the same command goes on with it"
            )
            return
        self._told.close()

    def _sweep(self, trials: Iterable[tuple[TrialView, str]]) -> None:
        for trial, stratum in trials:
            if not self._told.ended(trial.trial_id):
                self.left(trial, stratum)

    @property
    def _told(self) -> Told:
        assert self.told is not None, "there are trackers"
        return self.told

    def _tell(self) -> None:
        while (news := self._news.get()).kind != "stop":
            if news.report is not None:
                self._publish(news.report)
            elif news.trial is not None:
                self._tell_of(news.trial, news.stratum, left=news.kind == "left")
        self._each(lambda tracker: tracker.close())

    def _tell_of(self, view: TrialView, stratum: str, *, left: bool) -> None:
        record, trial_id = self.results.record(view.trial_id), view.trial_id
        facts = record.facts()
        if facts is None or self._told.ended(trial_id):
            return  # it never began: there is nothing to tell
        trial = TrackedTrial(trial_id, view.name, stratum, facts)
        told = self._told.step(trial_id)
        rows = [row for row in record.evaluations() if row.decides and row.step > told]
        if rows:
            self._each(lambda tracker: tracker.rows(trial, rows))
            self._told.note_step(trial_id, rows[-1].step)
        end = record.end()
        if end is not None:
            self._each(lambda tracker: tracker.end(trial, end))
            self._told.note_end(trial_id)
        elif left:
            self._each(lambda tracker: tracker.leave(trial_id))

    def _publish(self, study_dir: Path) -> None:
        from crossover.platform.analysis import write_report  # seconds of imports

        try:
            page = write_report(study_dir)
        except CrossoverError as error:
            self.say(f"tracking: there is no report to tell of: {error}")
            return
        self._each(lambda tracker: tracker.publish(page))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in self.trackers:
            try:
                tell(tracker)
            except Exception as error:  # whatever a tracker's library raises, the study goes on
                self.trackers = [other for other in self.trackers if other is not tracker]
                self.say(
                    f"tracking: {type(tracker).__name__} failed and is told no more: {type(error).__name__}: {error}"
                )
