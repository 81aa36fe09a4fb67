"""Recorded curves: what real trials showed, for studies of the same axes.

A configuration that was recorded shows its own curve. One that lies between recorded ones of the same scientific
settings shows their weighted mean: weights fall with the fourth power of the distance over the axes (Shepard, 1968),
so the nearest one decides. Distances are those of `search_spaces`: a range counts as 1, logarithms where the axis is
logarithmic, and another choice counts as 1. A curve that was cut off goes on along its last slope over log epochs.
Each repeat takes recorded seeds of its own where there are several. Noise is in the record, and is not added again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from crossover.platform.search.simulation.curves import Curve, Curves, Floats, Traits
from crossover.platform.study import Study, StudyError
from crossover.search_spaces import Axis, LogUniform, Scalar, same

__all__ = ["RecordedCurves", "RecordedTrial", "read_recorded"]

_POWER = 4
_FEW = 3  # evaluations whose slope goes on
_SAME = 1e-9
_LEAST_NUMBERS = 3  # two values are this one or that one, not near or far


@dataclass(frozen=True)
class RecordedTrial:
    """One trial of a record.

    Args:
        settings: by dotted path, of every axis that was active.
        repeat: which seed.
        epochs: of its evaluations, increasing.
        nats: validation loss at each.
        error: median paired standard error of a rise.
        bits_per_nat: bits per byte of one nat per token.
    """

    settings: Mapping[str, Scalar]
    repeat: int
    epochs: Floats
    nats: Floats
    error: float
    bits_per_nat: float

    def at(self, epochs: Floats) -> Floats:
        """Its loss at other epochs: linear in log epochs, beyond its last evaluation too."""
        x, last = np.log(self.epochs), min(_FEW, len(self.epochs) - 1)
        inside: Floats = np.interp(np.log(epochs), x, self.nats)
        if last < 1:
            return inside
        slope = (self.nats[-1] - self.nats[-1 - last]) / (x[-1] - x[-1 - last])
        beyond: Floats = slope * np.maximum(0.0, np.log(epochs) - x[-1])
        return inside + beyond


@dataclass(frozen=True)
class RecordedCurves(Curves):
    """Curves of a record.

    Args:
        trials: what was recorded.
        source: where from, for messages.
    """

    trials: Sequence[RecordedTrial]
    source: str

    def check(self, study: Study) -> None:
        """Every stratum needs a recorded trial with its scientific settings."""
        missing = [
            stratum.label
            for stratum in study.strata()
            if not self._like(stratum.settings, {**study.base, **stratum.settings}["data.unique_tokens"])
        ]
        if missing:
            mistakes = [
                f"stratum {label}: {self.source} has no trial with these settings and as many unique tokens: simulate "
                "a study of what was recorded, or give a law (--curves LAW)"
                for label in missing
            ]
            raise StudyError(f"study {study.name}", mistakes)

    def curve(self, traits: Traits) -> Curve:
        """The weighted mean of those that are near."""
        near = self._weighted(traits)

        def nats(epochs: Floats) -> Floats:
            total: Floats = sum((weight * trial.at(epochs) for weight, trial in near), np.zeros(len(epochs)))
            return total

        return Curve(
            nats,
            noise=0.0,
            error=sum(weight * trial.error for weight, trial in near),
            bits_per_nat=sum(weight * trial.bits_per_nat for weight, trial in near),
        )

    def _like(self, scientific: Mapping[str, Scalar], unique_tokens: Scalar) -> list[RecordedTrial]:
        return [
            trial
            for trial in self.trials
            if trial.settings.get("unique_tokens", unique_tokens) == unique_tokens
            and all(path in trial.settings and same(trial.settings[path], v) for path, v in scientific.items())
        ]

    def _weighted(self, traits: Traits) -> list[tuple[float, RecordedTrial]]:
        """Recorded trials with their weights; one for each recorded configuration."""
        found: dict[float, list[RecordedTrial]] = {}
        for trial in self._like(traits.scientific, traits.config.data.unique_tokens):
            found.setdefault(_distance(traits, trial), []).append(trial)
        chosen = [(far, self._of_repeat(trials, traits)) for far, trials in found.items()]
        if (exact := [trial for far, trial in chosen if far < _SAME]) or len(chosen) == 1:
            return [(1.0, exact[0] if exact else chosen[0][1])]
        weights = [far**-_POWER for far, _ in chosen]
        return [(weight / sum(weights), trial) for weight, (_, trial) in zip(weights, chosen, strict=True)]

    def _of_repeat(self, trials: Sequence[RecordedTrial], traits: Traits) -> RecordedTrial:
        by_repeat = sorted(trials, key=lambda trial: trial.repeat)
        return by_repeat[traits.repeat % len(by_repeat)]


def _distance(traits: Traits, trial: RecordedTrial) -> float:
    """Over the nuisance axes that both have."""
    squares = 0.0
    for path, value in traits.nuisance.items():
        recorded = trial.settings.get(path)
        if recorded is not None:
            squares += _apart(traits.axes[path], value, recorded) ** 2
    return math.sqrt(squares)


def _apart(axis: Axis, one: Scalar, other: Scalar) -> float:
    values = axis.domain.values
    numbers = [v for v in (one, other, *axis.domain.corners) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2 + len(axis.domain.corners) or (values is not None and len(values) < _LEAST_NUMBERS):
        return 0.0 if same(one, other) else 1.0
    if isinstance(axis.domain, LogUniform):
        numbers = [math.log(number) for number in numbers]
    low, high = min(numbers[2:]), max(numbers[2:])
    return abs(numbers[0] - numbers[1]) / (high - low) if high > low else 0.0


def read_recorded(path: Path) -> RecordedCurves:
    """Curves of a study's folder, or of a table of evaluations (Parquet or CSV).

    A table needs `trial_id`, `epoch`, `val_loss`, and a column for each axis by its path; these may stand in the table
    of trials beside it, as `crossover results` writes both: NAME-evaluations.parquet, NAME-trials.parquet.

    Raises:
        StudyError: it cannot be read, or lacks a column.
    """
    evaluations, trials = _tables(path)
    _require(path, evaluations, ("trial_id", "epoch", "val_loss"))
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in evaluations.to_pylist():
        rows.setdefault(row["trial_id"], []).append(row)
    facts = {row["trial_id"]: row for row in (trials or evaluations).to_pylist()}
    recorded = [_trial({**found[0], **facts.get(name, {})}, found) for name, found in rows.items()]
    usable = [trial for trial in recorded if len(trial.epochs)]
    if not usable:
        raise StudyError(f"--curves {path}", "no trial has a finite val_loss, so there is no curve: give another file")
    return RecordedCurves(usable, str(path))


def _tables(path: Path) -> tuple[pa.Table, pa.Table | None]:
    """Evaluations, and trials where they stand apart."""
    if path.is_dir():
        from crossover.platform.analysis.tables import load_study

        study = load_study(path)
        return study.evaluations, study.trials
    beside = path.with_name(path.name.replace("-evaluations", "-trials"))
    return _table(path), _table(beside) if beside != path and beside.exists() else None


def _table(path: Path) -> pa.Table:
    try:
        return pa_csv.read_csv(path) if path.suffix == ".csv" else pa_parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(
            f"--curves {path}",
            f"it is no table of evaluations ({reason}): give a study's folder, or what `crossover results DIR --table "
            "evaluations --format parquet` writes",
        ) from None


def _require(path: Path, table: pa.Table, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in table.column_names]:
        raise StudyError(
            f"--curves {path}",
            f"it has no column {', '.join(missing)}: curves need {', '.join(names)} and the axes by their paths, as "
            "`crossover results DIR --table evaluations` writes them",
        )


def _trial(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> RecordedTrial:
    finite = sorted((r for r in rows if _is_finite(r["val_loss"]) and r["epoch"] > 0), key=lambda r: float(r["epoch"]))
    errors = [r["rise_over_best_se"] for r in finite if (r.get("rise_over_best_se") or 0) > 0]
    bits = [r["val_bits_per_byte"] / r["val_loss"] for r in finite if r.get("val_bits_per_byte") and r["val_loss"]]
    return RecordedTrial(
        settings={name: value for name, value in facts.items() if value is not None},
        repeat=int(facts.get("repeat") or 0),
        epochs=np.array([r["epoch"] for r in finite], dtype=np.float64),
        nats=np.array([r["val_loss"] for r in finite], dtype=np.float64),
        error=median(errors) if errors else 0.0,
        bits_per_nat=fmean(bits) if bits else 1 / math.log(2),
    )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
