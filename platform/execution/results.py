"""What the driver knows of trials: read from their records, and written there only for those that cannot write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossover.platform.search.plan import Outcome
from crossover.platform.search.schedulers import CurvePoint
from crossover.trainers.durable import durable_file, writing
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import Evaluation, StopReason, TrialEnd

__all__ = ["RecordResults"]


@dataclass(frozen=True)
class RecordResults:
    """The trials' records of one study."""

    study_dir: Path

    def record(self, trial_id: str) -> TrialRecord:
        """The record of a trial, which need not exist yet."""
        return TrialRecord(self.study_dir / "trials" / trial_id)

    def outcome(self, trial_id: str) -> Outcome:
        """What its record says now. A loss that is not finite is no value."""
        record = self.record(trial_id)
        rows = record.evaluations()
        best = _best(rows)
        flops = rows[-1].train_flops + rows[-1].eval_flops if rows else 0.0
        end = record.end()
        if end is not None:
            flops = max(flops, end.train_flops + end.eval_flops)
        return Outcome(
            ended=end is not None,
            value=None if best is None else best.val_bits_per_byte,
            flops=flops,
            reason=None if end is None else end.stop_reason,
            curve=tuple(_point(row) for row in rows if math.isfinite(row.val_loss)),
        )

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        """Writes the end of a trial that cannot or shall not write it itself, with what its rows say."""
        record = self.record(trial_id)
        end = TrialEnd(stop_reason=reason, stop_evidence=evidence, **_so_far(record.evaluations()))
        with writing(record.paths.end):
            durable_file(record.paths.end, end.model_dump_json(indent=2).encode())


def _point(row: Evaluation) -> CurvePoint:
    return CurvePoint(row.tokens_seen, row.val_bits_per_byte, row.train_flops + row.eval_flops)


def _best(rows: Sequence[Evaluation]) -> Evaluation | None:
    finite = [row for row in rows if math.isfinite(row.val_loss)]
    return min(finite, key=lambda row: row.val_loss, default=None)


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
