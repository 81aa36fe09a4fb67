"""What the driver knows of trials: read from their records, and written there only for those that cannot write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from crossover.platform.search.plan import Outcome
from crossover.platform.search.schedulers import CurvePoint
from crossover.platform.storage.remote_study import RemoteStudy
from crossover.trainers.durable import durable_file, writing
from crossover.trainers.overfitting import best_index
from crossover.trainers.record import TrialRecord, deciding, decisions_of
from crossover.trainers.rows import Evaluation, StopReason, TrialEnd

__all__ = ["RecordResults"]

_SPENT = ("tokens_seen", "train_flops", "eval_flops")


@dataclass(frozen=True)
class RecordResults:
    """The trials' records of one study; what an ended trial's says is read once.

    Args:
        study_dir: its folder, or the driver's copy of one in an object store.
        remote: where the study lies, if `study_dir` is a copy.
    """

    study_dir: Path
    remote: RemoteStudy | None = None
    _ended: dict[str, Outcome] = field(default_factory=dict)

    def record(self, trial_id: str) -> TrialRecord:
        """The record of a trial, which need not exist yet."""
        return TrialRecord(self.study_dir / "trials" / trial_id)

    def outcome(self, trial_id: str) -> Outcome:
        """What its record says now. A loss that is not finite is no value.

        Raises:
            StorageError: the store cannot be read.
        """
        if (known := self._ended.get(trial_id)) is not None:
            return known
        if self.remote is not None:
            self.remote.fetch_trial(trial_id)
        record = self.record(trial_id)
        rows, end = record.rows(), record.end()
        found = _outcome(*([()] * 5 if rows is None else _columns(deciding(rows))))
        if end is None:
            return found
        flops = max(found.flops, end.train_flops + end.eval_flops)
        ended = self._ended[trial_id] = replace(found, ended=True, flops=flops, reason=end.stop_reason)
        return ended

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        """Writes the end of a trial that cannot or shall not write it itself, with what its rows say."""
        record = self.record(trial_id)
        end = TrialEnd(stop_reason=reason, stop_evidence=evidence, **_so_far(record.evaluations()))
        with writing(record.paths.end):
            durable_file(record.paths.end, end.model_dump_json(indent=2).encode())
        if self.remote is not None:
            self.remote.publish([f"trials/{trial_id}/{record.paths.end.name}"])


def _columns(rows: pa.RecordBatch) -> tuple[list[Any], ...]:
    losses, values = decisions_of(rows)
    return losses.tolist(), values.tolist(), *(rows[name].to_pylist() for name in _SPENT)


def _outcome(
    losses: Sequence[float],
    values: Sequence[float],
    tokens: Sequence[int],
    train_flops: Sequence[float],
    eval_flops: Sequence[float],
) -> Outcome:
    """What rows say of a trial that goes on, from their columns."""
    flops = [train + evaluation for train, evaluation in zip(train_flops, eval_flops, strict=True)]
    finite = [at for at, loss in enumerate(losses) if math.isfinite(loss)]
    best = min(finite, key=lambda at: losses[at], default=None)
    return Outcome(
        ended=False,
        value=None if best is None else values[best],
        flops=flops[-1] if flops else 0.0,
        curve=tuple(CurvePoint(tokens[at], values[at], flops[at]) for at in finite),
    )


def _best(rows: Sequence[Evaluation]) -> Evaluation | None:
    decisive = [row for row in rows if row.decides]
    position = best_index(decisive)
    return None if position is None else decisive[position]


def _so_far(rows: Sequence[Evaluation]) -> dict[str, Any]:
    if not rows:
        return {}
    names = ("tokens_seen", "train_flops", "eval_flops", "wall_seconds")
    spent = {name: getattr(rows[-1], name) for name in names}
    best = _best(rows)
    if best is None:
        return spent
    return {
        "best_step": best.step,
        "best_epoch": best.epoch,
        "best_val_loss": best.val_loss,
        "best_bits_per_byte": best.val_bits_per_byte,
        "best_bits_per_byte_se": best.val_bits_per_byte_se,
        "final_bits_per_byte": rows[-1].val_bits_per_byte,
        **spent,
    }
