"""What there is to show of a study: fed by the driver while it runs, or built from the files alone."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from crossover.platform.execution.decisions import (
    AttemptStarted,
    CohortDrawn,
    Decision,
    LegEnded,
    LegStarted,
    RungDecided,
    StopRequested,
    StudyFinished,
    Suggested,
    TrialClosed,
)
from crossover.platform.study import Study
from crossover.trainers.record import TrialRecord, deciding
from crossover.trainers.rows import TrialEnd
from crossover.trainers.run import Progress

__all__ = ["Event", "StratumView", "StudyView", "TrialState", "TrialView", "trial_name"]

TrialState = Literal["waiting", "running", "paused", "done", "failed"]

_ACTIONS = {"promote": "go on", "continue": "go on as they are", "pause": "wait", "stop": "end"}


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        time: seconds since 1970.
        text: what, in one line.
        detail: one of very many, such as an evaluation.
    """

    time: float
    text: str
    detail: bool = False


@dataclass
class TrialView:
    """One trial, as far as it has come.

    Attributes:
        best: validation bits per byte of the best evaluation, `best_se` its error, `best_epoch` its epoch.
        rise: nats per token of the last evaluation over the best one, and the error of that.
        evidence: why it ended, in the record's words.
        number: of its configuration within its stratum.
        rung: how many rungs it went past.
        waits: why it stays at the rung where it waits; empty while that is not decided.
    """

    trial_id: str
    name: str
    state: TrialState = "waiting"
    best: float | None = None
    best_se: float | None = None
    best_epoch: float | None = None
    rise: tuple[float, float] | None = None
    last: float | None = None
    epoch: float | None = None
    fraction: float = 0.0
    tokens_per_second: float | None = None
    activity: str = ""
    stop_reason: str | None = None
    evidence: str = ""
    config_hash: str = ""
    number: int = 0
    rung: int = 0
    rungs_run: int = 0
    waits: str = ""

    @property
    def is_promoted(self) -> bool:
        """It waits for a worker to go on past a rung."""
        return self.state == "paused" and self.rung > self.rungs_run

    @property
    def standing(self) -> str:
        """Its state, in the words of a halving."""
        if self.is_promoted:
            return "promoted"
        return f"{self.state} past {self.rung}" if self.state == "running" and self.rung else self.state

    @property
    def is_over(self) -> bool:
        """It will not run again."""
        return self.state in ("done", "failed")

    @property
    def why(self) -> str:
        """Why it ended, in one short line; the whole sentence is `evidence`."""
        if self.stop_reason is None:
            return self.waits
        if self.stop_reason == "overfit" and self.rise is not None and self.best_epoch is not None:
            rise, error = self.rise
            return f"overfit: +{rise:.3f} ± {error:.3f} nats over the best at epoch {self.best_epoch:.3g}"
        first = next(iter(self.evidence.splitlines()), "").split("; ")[0].split(" (")[0]
        return f"{self.stop_reason}: {first}"

    def take_row(self, row: Mapping[str, Any]) -> None:
        """An evaluation."""
        self.epoch, self.last = row["epoch"], row["val_bits_per_byte"]
        self.rise = (row["rise_over_best"], row["rise_over_best_se"])
        if row["val_loss"] <= row["best_val_loss"]:
            self.best, self.best_se = row["val_bits_per_byte"], row["val_bits_per_byte_se"]
            self.best_epoch = row["epoch"]

    def take_progress(self, progress: Progress) -> None:
        """What a poll told."""
        self.epoch, self.activity = progress.epoch, progress.activity
        self.fraction = progress.step / max(1, progress.num_steps)
        self.tokens_per_second = progress.tokens_per_second or self.tokens_per_second

    def take_end(self, end: TrialEnd) -> None:
        """How it ended."""
        self.state = "failed" if end.stop_reason == "failed" else "done"
        self.stop_reason, self.evidence, self.fraction = end.stop_reason, end.stop_evidence, 1.0
        if end.best_bits_per_byte is not None:
            self.best, self.best_se = end.best_bits_per_byte, end.best_bits_per_byte_se


@dataclass
class StratumView:
    """One stratum: its trials, and how many there will be."""

    label: str
    planned: int
    trials: dict[str, TrialView] = field(default_factory=dict)
    cohorts: list[range] = field(default_factory=list)

    @property
    def past_rungs(self) -> list[int]:
        """Trials of the newest cohort, and how many of them went past the first rung, the second, ...; [] without."""
        newest = self.cohorts[-1] if self.cohorts else None
        rungs = [t.rung for t in self.trials.values() if newest is None or t.number in newest]
        if newest is None and not any(rungs):
            return []
        return [sum(rung >= passed for rung in rungs) for passed in range(max(rungs, default=0) + 1)]

    @property
    def num_planned(self) -> int:
        """Trials in the end, as far as is known."""
        return max(self.planned, len(self.trials))

    @property
    def best(self) -> TrialView | None:
        """The trial with the best validation bits per byte so far."""
        known = [trial for trial in self.trials.values() if trial.best is not None]
        return min(known, key=lambda trial: trial.best or 0.0, default=None)

    def count(self, *states: TrialState) -> int:
        """Trials in these states."""
        return sum(trial.state in states for trial in self.trials.values())


@dataclass
class StudyView:
    """A study as a whole."""

    name: str
    strata: dict[str, StratumView]
    attempts: int = 0
    finished: str | None = None
    budget: str | None = None
    budget_fraction: float | None = None
    stopping: str | None = None
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=200))
    num_events: int = 0
    started: float = field(default_factory=time.monotonic)
    _trials: dict[str, TrialView] = field(default_factory=dict)
    _fraction_at_start: float | None = None

    @classmethod
    def of(cls, study: Study) -> StudyView:
        """A study in which nothing has happened."""
        search = study.search
        extra = search.num_final_repeats - search.repeats
        strata = {
            s.label: StratumView(s.label, study.num_configurations(s) * search.repeats + extra) for s in study.strata()
        }
        return cls(study.name, strata)

    @property
    def running(self) -> list[TrialView]:
        """Trials that have a worker."""
        return [trial for trial in self._trials.values() if trial.state == "running"]

    @property
    def trials(self) -> list[TrialView]:
        """Every trial that was made."""
        return list(self._trials.values())

    @property
    def placed(self) -> list[tuple[TrialView, str]]:
        """Every trial that was made, with the label of its stratum."""
        return [(trial, stratum.label) for stratum in self.strata.values() for trial in stratum.trials.values()]

    def stratum_of(self, trial_id: str) -> str:
        """Label of a trial's stratum; empty for one that the study no longer has."""
        return next((stratum.label for stratum in self.strata.values() if trial_id in stratum.trials), "")

    @property
    def fraction(self) -> float:
        """Share of the planned trials that is over, running ones in part."""
        planned = sum(stratum.num_planned for stratum in self.strata.values())
        made = sum(1.0 if t.is_over else t.fraction for s in self.strata.values() for t in s.trials.values())
        return made / planned if planned else 1.0

    def seconds_left(self) -> float | None:
        """At the pace of this attempt; None before there is one. A budget that ends first counts."""
        now = max(self.fraction, self.budget_fraction or 0.0)
        if self._fraction_at_start is None:
            self._fraction_at_start = now
        gained = now - self._fraction_at_start
        return (1.0 - now) * (time.monotonic() - self.started) / gained if gained > 0.01 else None

    def begin_attempt(self) -> None:
        """What is counted as this attempt's pace starts here, and what ended the one before is over."""
        self.stopping = self.finished = None
        self.started, self._fraction_at_start = time.monotonic(), max(self.fraction, self.budget_fraction or 0.0)

    @property
    def ends(self) -> Counter[str]:
        """Why trials ended, and how many for each reason."""
        return Counter(trial.stop_reason for trial in self._trials.values() if trial.stop_reason is not None)

    def say(self, text: str, *, detail: bool = False) -> None:
        """Something that a user wants to know has happened."""
        self.events.append(Event(time.time(), text, detail))
        self.num_events += 1

    def trial(self, trial_id: str) -> TrialView:
        """The trial of that id."""
        return self._trials[trial_id]

    def made(self, line: Suggested) -> TrialView:
        """A trial was suggested."""
        trial = self._trials.setdefault(
            line.trial_id, TrialView(line.trial_id, trial_name(line), config_hash=line.config_hash, number=line.number)
        )
        if line.stratum_label in self.strata:
            self.strata[line.stratum_label].trials[line.trial_id] = trial
        return trial

    def drawn(self, line: CohortDrawn) -> None:
        """The newest trials of a stratum are a cohort."""
        if (stratum := self.strata.get(line.stratum_label)) is not None:
            stratum.cohorts.append(range(line.first, line.first + line.size))

    def decided(self, line: RungDecided, *, quietly: bool = False) -> None:
        """Who goes on at a rung, and who waits there; an event, unless it is an old one."""
        counts: Counter[tuple[int, str]] = Counter()
        for one in line.decisions:
            trial = self._trials[one.trial_id]
            counts[one.rung, one.action] += 1
            if one.action in ("promote", "continue"):
                trial.rung, trial.waits = one.rung + 1, ""
            else:
                trial.waits = one.reason
        if quietly:
            return
        where = f"{line.stratum_label}, cohort {line.cohort + 1}" if line.stratum_label else "all strata"
        for rung in sorted({rung for rung, _ in counts}):
            words = ", ".join(f"{counts[rung, a]} {verb}" for a, verb in _ACTIONS.items() if counts[rung, a])
            self.say(f"rung {rung + 1} of {where}: {words}")

    def leg_started(self, trial_id: str) -> None:
        """A trial was given a worker."""
        trial = self._trials[trial_id]
        trial.state, trial.rungs_run = "running", trial.rung

    def closed(self, line: TrialClosed) -> None:
        """The driver ended a trial that waited."""
        trial = self._trials[line.trial_id]
        trial.state = "failed" if line.reason == "failed" else "done"
        trial.stop_reason, trial.evidence, trial.fraction = line.reason, line.evidence, 1.0

    def replay(self, decisions: Iterable[Decision], study_dir: Path, *, driver_alive: bool) -> None:
        """Takes up what is on disk: decisions first, then what the trials' records say themselves."""
        for line in decisions:
            self._replay_line(line)
        for trial in self._trials.values():
            _read_record(trial, TrialRecord(study_dir / "trials" / trial.trial_id))
            if trial.state == "running" and not driver_alive:
                trial.state = "paused"

    def _replay_line(self, line: Decision) -> None:
        if isinstance(line, AttemptStarted):
            self.attempts, self.finished, self.stopping = self.attempts + 1, None, None
            for trial in self.running:
                trial.state = "paused"
        elif isinstance(line, Suggested):
            self.made(line)
        elif isinstance(line, LegStarted):
            self.leg_started(line.trial_id)
        elif isinstance(line, LegEnded):
            self._trials[line.trial_id].state = "paused"
        elif isinstance(line, CohortDrawn):
            self.drawn(line)
        elif isinstance(line, RungDecided):
            self.decided(line, quietly=True)
        elif isinstance(line, StopRequested):
            self.stopping = line.evidence
        elif isinstance(line, StudyFinished):
            self.finished = line.reason


def trial_name(line: Suggested) -> str:
    """Short and readable: stratum, number of the configuration, seed where there are several.

    Of the stratum's label words stand alone (`tuned masked_diffusion`), numbers keep their name (`unique_tokens=8192`).
    """
    repeat = f" seed {line.repeat}" if line.repeat else ""
    return f"{' '.join(map(_word, line.stratum_label.split()))} #{line.number}{repeat}"


def _word(part: str) -> str:
    value = part.partition("=")[2]
    return value if value[:1].isalpha() and value not in ("true", "false", "null") else part


def _read_record(trial: TrialView, record: TrialRecord) -> None:
    rows, end = record.rows(), record.end()
    rows = None if rows is None else deciding(rows)
    if rows is not None and rows.num_rows:
        losses = rows["val_loss"].to_pylist()
        finite = [at for at, loss in enumerate(losses) if math.isfinite(loss)]
        best = min(finite, key=lambda at: losses[at], default=None)
        for at in (rows.num_rows - 1,) if best is None else (best, rows.num_rows - 1):
            trial.take_row(rows.slice(at, 1).to_pylist()[0])
    if end is not None:
        trial.take_end(end)
    elif trial.epoch is not None:
        trial.fraction = _fraction(record, trial.epoch)


def _fraction(record: TrialRecord, epoch: float) -> float:
    facts = record.facts()
    epochs = facts.config.get("schedule", {}).get("epochs") if facts else None
    return min(1.0, epoch / epochs) if epochs else 0.0
