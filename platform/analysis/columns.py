"""The columns of the two tables: names and units as documented, a missing value null, one column an axis.

Axis columns take the narrowest type that holds all their values; where the values of one axis mix types, text.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crossover.trainers.rows import Evaluation

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
    "precision": _TEXT,
    "device": _TEXT,
    "world_size": _WHOLE,
    "data_hash": _TEXT,
    "subset_hash": _TEXT,
    "git_commit": _TEXT,
    "packages": _TEXT,
}


def trials_table(
    trials: Sequence[TrialFiles], metadata: Mapping[str, str], *, default_objective: str | None = None
) -> pa.Table:
    """One row a trial, in the order of suggestion; axes that would repeat a column of their own name are left out."""
    rows = [_trial_row(trial, default_objective) for trial in trials]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TRIAL_FIELDS.items()}
    axes = dict.fromkeys(path for trial in trials for path in trial.suggestion.axes)
    for path in axes:
        if path not in columns:
            columns[path] = _axis_column([trial.suggestion.axes.get(path) for trial in trials])
    return pa.table(columns).replace_schema_metadata(dict(metadata))


def evaluations_table(trials: Sequence[TrialFiles], metadata: Mapping[str, str]) -> pa.Table:
    """One row an evaluation: the trial's id, then every field of `Evaluation`."""
    rows = [(trial.suggestion.trial_id, row) for trial in trials for row in trial.evaluations]
    columns = {"trial_id": pa.array([trial_id for trial_id, _ in rows], _TEXT)}
    for name, info in Evaluation.model_fields.items():
        columns[name] = pa.array([getattr(row, name) for _, row in rows], _arrow_type(info.annotation))
    return pa.table(columns).replace_schema_metadata(dict(metadata))


def _trial_row(trial: TrialFiles, default_objective: str | None) -> dict[str, Any]:
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
        known = facts.model_dump()
        row.update({name: known[name] for name in TRIAL_FIELDS if name in known})
        row["data_seed"] = facts.config.get("data", {}).get("seed")
        row["packages"] = json.dumps(facts.packages, sort_keys=True)
    row.update(_so_far(trial.evaluations))
    if end is not None:
        known = end.model_dump()
        row.update({name: known[name] for name in TRIAL_FIELDS if known.get(name) is not None})
    return row


def _so_far(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Best, last and spent; a non-finite loss is never a best."""
    if not evaluations:
        return {}
    last = evaluations[-1]
    row: dict[str, Any] = {
        name: getattr(last, name)
        for name in ("tokens_seen", "train_flops", "eval_flops", "wall_seconds", "precision", "device", "world_size")
    }
    row["epochs"] = last.epoch
    row["final_bits_per_byte"] = last.val_bits_per_byte
    finite = [e for e in evaluations if math.isfinite(e.val_loss)]
    if finite:
        best = min(finite, key=lambda e: e.val_loss)
        row.update(
            best_bits_per_byte=best.val_bits_per_byte,
            best_bits_per_byte_se=best.val_bits_per_byte_se,
            best_epoch=best.epoch,
            best_step=best.step,
        )
    return row


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


def _arrow_type(annotation: Any) -> pa.DataType:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (annotation,) = [a for a in typing.get_args(annotation) if a is not type(None)]
    if typing.get_origin(annotation) is typing.Literal:
        return _TEXT
    return {int: _WHOLE, float: _REAL, str: _TEXT, bool: pa.bool_()}[annotation]
