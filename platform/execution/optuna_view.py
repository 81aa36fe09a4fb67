"""A study as Optuna sees it: a journal file that optuna-dashboard opens, one Optuna study a stratum.

A view of decisions and records, never read back: it can be deleted, and it is rebuilt whole whenever it is opened. From
then on only changes are appended, so a dashboard that reads the file follows a study that runs.

Optuna has no word for a paused trial: it stands as waiting. Steps are training tokens seen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from crossover.platform.execution.decisions import (
    AttemptStarted,
    Decision,
    LegEnded,
    LegStarted,
    Suggested,
    read_decisions,
)
from crossover.platform.search.searchers.sources import Replay
from crossover.platform.study import Study, read_frozen
from crossover.search_spaces import Stratum
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import Evaluation, TrialEnd

__all__ = ["JOURNAL", "OptunaView"]

JOURNAL = "optuna.journal"
_METRIC = "validation bits/byte"
_COST = "training FLOPs"
_COPIED = ("stop_reason", "stop_evidence", "best_epoch", "test_bits_per_byte", "tokens_seen", "train_flops")


@dataclass
class _Leg:
    """What decisions say of a trial's legs."""

    started: datetime | None = None
    ended: datetime | None = None
    is_running: bool = False


@dataclass
class _Shown:
    """What the journal holds of one trial."""

    number: int
    state: TrialState
    steps: set[int] = field(default_factory=set)


class OptunaView:
    """Keeps the journal of one study's folder.

    Args:
        study_dir: Folder of the study; `optuna.journal` in it is replaced.

    Raises:
        CrossoverError: it is no study's folder, or its record cannot be read.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self._study = read_frozen(study_dir).study
        self.path = study_dir / JOURNAL
        for leftover in study_dir.glob(f"{JOURNAL}*"):  # a lock of a dashboard that was killed, too
            leftover.unlink()
        self._storage = JournalStorage(JournalFileBackend(str(self.path)))
        self._strata = {stratum.label: stratum for stratum in self._study.strata()}
        self._ids = {label: self._create(label) for label in self._strata}
        self._shown: dict[tuple[str, str], _Shown] = {}
        self.update()

    def update(self) -> None:
        """Appends what has happened since the last time."""
        legs: dict[str, _Leg] = {}
        suggested: dict[tuple[str, str], Suggested] = {}
        for line in read_decisions(self._study_dir):
            _take(line, legs, suggested)
        for key, line in suggested.items():
            shown = self._shown.get(key)
            if line.stratum_label in self._ids and (shown is None or not shown.state.is_finished()):
                self._show(key, line, legs.get(line.trial_id, _Leg()))

    def _create(self, label: str) -> int:
        values = [_METRIC] + [_COST] * (self._study.search.sampler == "nsga2")
        name = f"{self._study.name}: {label}"
        directions = [StudyDirection.MINIMIZE] * len(values)
        with _quiet():
            study = optuna.create_study(storage=self._storage, study_name=name, directions=directions)
            study.set_metric_names(values)
        study.set_user_attr("description", self._study.description)
        return self._storage.get_study_id_from_name(name)

    def _show(self, key: tuple[str, str], line: Suggested, leg: _Leg) -> None:
        record = TrialRecord(self._study_dir / "trials" / line.trial_id)
        rows, end = [row for row in record.evaluations() if row.decides], record.end()
        state, values = self._outcome(line, rows, end, leg)
        shown = self._shown.get(key)
        if shown is None:
            number = self._storage.create_new_trial(
                self._ids[line.stratum_label], self._template(line, rows, end, leg, state, values)
            )
            self._shown[key] = _Shown(number, state, {row.tokens_seen for row in rows})
            return
        for row in rows:
            if row.tokens_seen not in shown.steps and math.isfinite(row.val_bits_per_byte):
                self._storage.set_trial_intermediate_value(shown.number, row.tokens_seen, row.val_bits_per_byte)
                shown.steps.add(row.tokens_seen)
        if state != shown.state:
            if state.is_finished():
                for name, value in _attributes(line, end).items():
                    self._storage.set_trial_user_attr(shown.number, name, value)
            self._storage.set_trial_state_values(shown.number, state, values)
            shown.state = state

    def _template(
        self,
        line: Suggested,
        rows: Sequence[Evaluation],
        end: TrialEnd | None,
        leg: _Leg,
        state: TrialState,
        values: list[float] | None,
    ) -> FrozenTrial:
        params, distributions = _parameters(self._study, self._strata[line.stratum_label], line)
        started = None if state == TrialState.WAITING else _local(leg.started or line.time)
        return FrozenTrial(
            number=0,  # the storage counts
            trial_id=0,
            state=state,
            value=None,
            values=values,
            datetime_start=started,
            datetime_complete=_local(leg.ended or line.time) if state.is_finished() else None,
            params=params,
            distributions=distributions,
            user_attrs=dict(_attributes(line, end)),
            system_attrs={},
            intermediate_values={
                row.tokens_seen: row.val_bits_per_byte for row in rows if math.isfinite(row.val_bits_per_byte)
            },
        )

    def _outcome(
        self, line: Suggested, rows: Sequence[Evaluation], end: TrialEnd | None, leg: _Leg
    ) -> tuple[TrialState, list[float] | None]:
        if end is None:
            return (TrialState.RUNNING if leg.is_running else TrialState.WAITING), None
        best = min((row.val_bits_per_byte for row in rows if math.isfinite(row.val_bits_per_byte)), default=None)
        if end.stop_reason == "failed" or best is None:
            return TrialState.FAIL, None
        values = [best]
        if self._study.search.sampler == "nsga2":
            values.append(self._study.cost(self._strata[line.stratum_label], line.settings).train_flops)
        return (TrialState.PRUNED if end.stop_reason == "pruned" else TrialState.COMPLETE), values


def _take(line: Decision, legs: dict[str, _Leg], suggested: dict[tuple[str, str], Suggested]) -> None:
    if isinstance(line, Suggested):
        suggested[line.stratum_label, line.trial_id] = line
    elif isinstance(line, AttemptStarted):
        for leg in legs.values():
            leg.is_running = False
    elif isinstance(line, LegStarted):
        leg = legs.setdefault(line.trial_id, _Leg())
        leg.started, leg.is_running = leg.started or line.time, True
    elif isinstance(line, LegEnded):
        leg = legs.setdefault(line.trial_id, _Leg())
        leg.ended, leg.is_running = line.time, False


def _parameters(study: Study, stratum: Stratum, line: Suggested) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    replay = Replay(line.settings)
    study.space.suggest(stratum, replay, None)
    return replay.params, replay.distributions


def _attributes(line: Suggested, end: TrialEnd | None) -> Mapping[str, Any]:
    known: dict[str, Any] = {
        "trial_id": line.trial_id,
        "config_hash": line.config_hash,
        "configuration": line.number,
        "repeat": line.repeat,
        "purpose": line.purpose,
    }
    if end is not None:
        known |= {name: value for name in _COPIED if (value := getattr(end, name)) is not None}
    return known


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line for every study that is made, and without being told that metric names are experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _local(time: datetime) -> datetime:
    """Optuna keeps local times without a zone."""
    return time.astimezone().replace(tzinfo=None)
