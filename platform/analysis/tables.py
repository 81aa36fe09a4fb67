"""A study's two tables, read from the trials' records and the driver's decisions.

Nothing is stored here that is not derived: the tables can be rebuilt at any time, also while the study runs.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossover.platform.analysis.columns import evaluations_table, trials_table
from crossover.platform.analysis.export import write_table
from crossover.platform.analysis.status import Suggestion, suggestions
from crossover.platform.execution.decisions import read_decisions
from crossover.platform.execution.lock import lock_holder
from crossover.platform.storage.views import StudyPlace
from crossover.platform.study import FrozenStudy, Study, read_frozen
from crossover.trainers.errors import CrossoverError, RecordError
from crossover.trainers.record import TrialRecord, deciding, evaluations_of
from crossover.trainers.rows import SCHEMA_VERSION, Evaluation, TrialEnd, TrialFacts

__all__ = ["StudyFolderError", "StudyTables", "TrialFiles", "load_study", "write_table"]


class StudyFolderError(CrossoverError):
    """A folder that holds no study that can be read."""


@dataclass(frozen=True)
class TrialFiles:
    """What one trial wrote and what was decided of it; None where it has not come so far."""

    suggestion: Suggestion
    record: TrialRecord
    facts: TrialFacts | None
    rows: pa.RecordBatch | None
    end: TrialEnd | None

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Its rows that decisions are taken on, oldest first, made when they are asked for: tables need none."""
        return () if self.rows is None else tuple(evaluations_of(deciding(self.rows)))

    @cached_property
    def _decisive(self) -> pa.RecordBatch | None:
        return None if self.rows is None else deciding(self.rows)

    def values(self, name: str) -> NDArray[np.float64]:
        """One column of these rows, a missing value NaN; rows of every trial take a large study half a minute."""
        if self._decisive is None:
            return np.empty(0)
        found: NDArray[np.float64] = self._decisive[name].to_numpy(zero_copy_only=False).astype(np.float64)
        return found

    @property
    def status(self) -> str:
        """waiting, running, paused, done or failed; the trial's own end outranks the driver's log."""
        if self.end is not None:
            return "failed" if self.end.stop_reason == "failed" else "done"
        return self.suggestion.status

    @property
    def is_lost(self) -> bool:
        """Whether the driver saw it end, and its record says nothing of that: somebody removed it."""
        return self.suggestion.status == "done" and self.end is None


@dataclass(frozen=True, repr=False)
class StudyTables:
    """A study and its two tables; `records` gives what tables do not hold, such as per-window losses."""

    place: StudyPlace
    study: Study
    trials: pa.Table
    evaluations: pa.Table
    records: dict[str, TrialRecord]
    frozen: FrozenStudy
    files: dict[str, TrialFiles]

    @property
    def path(self) -> Path:
        """Its folder, or this machine's copy of it."""
        return self.place.path

    def __repr__(self) -> str:
        counts = f"{self.trials.num_rows} trials, {self.evaluations.num_rows} evaluations"
        return f"<study {self.study.name}: {counts}; {self.path}>"


def load_study(path: str | Path) -> StudyTables:
    """Read a study's folder into tables.

    Args:
        path: the study's folder, such as runs/quickstart, or its URI in an object store.

    Raises:
        StudyFolderError: no study's folder, no trial yet, or records of another version.
    """
    place = StudyPlace.of(path)
    folder = place.path
    if not (folder / "study.yaml").is_file():
        raise StudyFolderError(
            f"{folder} is no study's folder: it has no study.yaml. Give the folder that `crossover run` made, "
            "such as runs/<study>"
        )
    with _without_collector():
        return _read_study(place)


def _read_study(place: StudyPlace) -> StudyTables:
    folder = place.path
    frozen = read_frozen(folder)
    study = frozen.study
    files = _read_trials(folder)
    if not files:
        raise StudyFolderError(f"the study in {folder} has no trial yet: start it with `crossover run`")
    metadata = {"schema_version": str(SCHEMA_VERSION), "study": study.name}
    trials = list(files.values())
    evaluations = evaluations_table(trials, metadata)
    return StudyTables(
        place=place,
        study=study,
        frozen=frozen,
        trials=trials_table(trials, evaluations, metadata, default_objective=_fixed_objective(study)),
        evaluations=evaluations,
        records={trial_id: trial.record for trial_id, trial in files.items()},
        files=files,
    )


def _read_trials(folder: Path) -> dict[str, TrialFiles]:
    found = suggestions(read_decisions(folder), driver_alive=lock_holder(folder) is not None)
    return {suggestion.trial_id: _read_trial(folder, suggestion) for suggestion in found}


@contextmanager
def _without_collector() -> Iterator[None]:
    """Nothing that is read here is garbage, and looking for some among 10,000 trials takes a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_trial(folder: Path, suggestion: Suggestion) -> TrialFiles:
    directory = folder / "trials" / suggestion.trial_id
    record = TrialRecord(directory)
    if not directory.is_dir():
        return TrialFiles(suggestion, record, None, None, None)
    try:
        facts = record.facts()
    except RecordError:
        _refuse_other_version(directory)
        raise
    if facts is not None and facts.schema_version != SCHEMA_VERSION:
        _refuse_other_version(directory)
    return TrialFiles(suggestion, record, facts, record.rows(), record.end())


def _refuse_other_version(directory: Path) -> None:
    """A trial of a later version may have fields that this one does not know: say so before they fail to parse."""
    facts = directory / "trial.json"
    if not facts.is_file():
        return
    try:
        version = json.loads(facts.read_bytes()).get("schema_version")
    except (ValueError, AttributeError):
        return  # damaged: the record's own reader says how
    if version != SCHEMA_VERSION:
        raise StudyFolderError(
            f"{facts} has schema_version {version}, and this version of crossover reads {SCHEMA_VERSION}: "
            "use the version of crossover that wrote the study"
        )


def _fixed_objective(study: Study) -> str | None:
    name = study.fixed.get("objective.name")
    return None if name is None else str(name)
