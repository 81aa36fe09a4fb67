"""The columns of the two tables: names and units as documented, a missing value null, one column an axis.

Axis columns take the narrowest type that holds all their values; where the values of one axis mix types, text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossover.trainers.record import EVALUATION_SCHEMA, decisions_of
from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts

if TYPE_CHECKING:
    from crossover.platform.analysis.tables import TrialFiles

__all__ = ["TRIAL_FIELDS", "evaluations_table", "trials_table"]

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()

TRIAL_FIELDS: dict[str, pa.DataType] = {
    "trial_id": _TEXT,
    "number": _WHOLE,
    "config_hash": _TEXT,
    "objective": _TEXT,
    "is_bound": pa.bool_(),
    "seed": _WHOLE,
    "data_seed": _WHOLE,
    "repeat": _WHOLE,
    "purpose": _TEXT,
    "stratum": _TEXT,
    "status": _TEXT,
    "stop_reason": _TEXT,
    "stop_evidence": _TEXT,
    "num_params_total": _WHOLE,
    "num_params_active": _WHOLE,
    "num_params_with_embeddings": _WHOLE,
    "unique_tokens": _WHOLE,
    "epochs": _REAL,
    "best_bits_per_byte": _REAL,
    "best_bits_per_byte_se": _REAL,
    "best_epoch": _REAL,
    "best_step": _WHOLE,
    "final_bits_per_byte": _REAL,
    "test_bits_per_byte": _REAL,
    "test_bits_per_byte_se": _REAL,
    "tokens_seen": _WHOLE,
    "train_flops": _REAL,
    "eval_flops": _REAL,
    "wall_seconds": _REAL,
    "eval_seconds": _REAL,
    "precision": _TEXT,
    "device": _TEXT,
    "world_size": _WHOLE,
    "data_hash": _TEXT,
    "subset_hash": _TEXT,
    "git_commit": _TEXT,
    "packages": _TEXT,
}
_FACTS = tuple(name for name in TRIAL_FIELDS if name in TrialFacts.model_fields and name != "packages")
_END = tuple(name for name in TRIAL_FIELDS if name in TrialEnd.model_fields)
_LAST = {
    "tokens_seen": "tokens_seen",
    "train_flops": "train_flops",
    "eval_flops": "eval_flops",
    "wall_seconds": "wall_seconds",
    "eval_seconds": "eval_seconds",
    "precision": "precision",
    "device": "device",
    "world_size": "world_size",
    "epochs": "epoch",
    "final_bits_per_byte": "val_bits_per_byte",
}
_BEST = {
    "best_bits_per_byte": "val_bits_per_byte",
    "best_bits_per_byte_se": "val_bits_per_byte_se",
    "best_epoch": "epoch",
    "best_step": "step",
}


def trials_table(
    trials: Sequence[TrialFiles],
    evaluations: pa.Table,
    metadata: Mapping[str, str],
    *,
    default_objective: str | None = None,
) -> pa.Table:
    """One row a trial, in the order of suggestion; axes that would repeat a column of their own name are left out.

    Args:
        evaluations: the `evaluations_table` of the same trials.
    """
    so_far = _so_far(trials, evaluations)
    rows = [_trial_row(trial, known, default_objective) for trial, known in zip(trials, so_far, strict=True)]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TRIAL_FIELDS.items()}
    axes = dict.fromkeys(path for trial in trials for path in trial.suggestion.axes)
    for path in axes:
        if path not in columns:
            columns[path] = _axis_column([trial.suggestion.axes.get(path) for trial in trials])
    return pa.table(columns).replace_schema_metadata(dict(metadata))


def evaluations_table(trials: Sequence[TrialFiles], metadata: Mapping[str, str]) -> pa.Table:
    """One row an evaluation: the trial's id, then every field of `Evaluation`; trials in their order."""
    stored = [trial.rows for trial in trials if trial.rows is not None]
    rows = pa.Table.from_batches(stored, EVALUATION_SCHEMA).combine_chunks()
    trial_ids = pa.array([trial.suggestion.trial_id for trial in trials], _TEXT).take(pa.array(_trial_of_each(trials)))
    columns = {"trial_id": trial_ids, **{name: rows[name] for name in Evaluation.model_fields}}
    return pa.table(columns).replace_schema_metadata(dict(metadata))


def _trial_of_each(trials: Sequence[TrialFiles]) -> NDArray[np.int64]:
    """For every row of the evaluations, the place of its trial."""
    return np.repeat(np.arange(len(trials)), [0 if trial.rows is None else trial.rows.num_rows for trial in trials])


def _trial_row(trial: TrialFiles, so_far: Mapping[str, Any], default_objective: str | None) -> dict[str, Any]:
    made, facts, end = trial.suggestion.made, trial.facts, trial.end
    row: dict[str, Any] = dict.fromkeys(TRIAL_FIELDS)
    row.update(
        trial_id=made.trial_id,
        number=made.number,
        config_hash=made.config_hash,
        objective=trial.suggestion.axes.get("objective.name", default_objective),
        repeat=made.repeat,
        purpose=made.purpose,
        stratum=made.stratum_label,
        status=trial.status,
    )
    if trial.status == "failed":
        row.update(stop_reason="failed", stop_evidence=trial.suggestion.error)
    if facts is not None:
        row.update({name: getattr(facts, name) for name in _FACTS})
        row["data_seed"] = facts.config.get("data", {}).get("seed")
        row["packages"] = json.dumps(facts.packages, sort_keys=True)
    row.update(so_far)
    if end is not None:
        row.update({name: value for name in _END if (value := getattr(end, name)) is not None})
    return row


def _so_far(trials: Sequence[TrialFiles], evaluations: pa.Table) -> list[dict[str, Any]]:
    """Best, last and spent of each trial; a non-finite loss is never a best. Cell by cell it costs seconds."""
    found: list[dict[str, Any]] = [{} for _ in trials]
    decides = np.flatnonzero(evaluations["decides"].to_numpy())
    if not decides.size:
        return found
    known, begins = np.unique(_trial_of_each(trials)[decides], return_index=True)
    ends = np.append(begins[1:], decides.size)
    losses = decisions_of(evaluations)[0][decides]
    losses = np.where(np.isfinite(losses), losses, np.inf)
    best = np.array([begin + np.argmin(losses[begin:end]) for begin, end in zip(begins, ends, strict=True)])
    for trial, last, found_best, is_finite in zip(
        known,
        _rows_at(evaluations, decides[ends - 1], _LAST),
        _rows_at(evaluations, decides[best], _BEST),
        losses[best] < np.inf,
        strict=True,
    ):
        found[trial] = last | (found_best if is_finite else {})
    return found


def _rows_at(evaluations: pa.Table, places: NDArray[np.int64], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Some rows, their cells by the names that they have in the other table."""
    rows: list[dict[str, Any]] = pa.table({name: evaluations[names[name]].take(places) for name in names}).to_pylist()
    return rows


def _axis_column(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int}:
        return pa.array(values, _WHOLE)
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], _REAL)
    return pa.array(
        [value if value is None or isinstance(value, str) else json.dumps(value) for value in values], _TEXT
    )
