"""TensorBoard: one run a trial below `<study>/tracking/tensorboard`, steps are training tokens.

Written by tensorboardX, which comes with Ray Tune; `tensorboard --logdir` shows curves, settings and why a trial ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from crossover.platform.execution.tracking.base import TrackedTrial, Tracker
from crossover.trainers.rows import Evaluation, TrialEnd

__all__ = ["TensorBoard"]

_NOT_CURVES = frozenset({"step", "tokens_seen", "unique_tokens", "world_size"})
_RESULTS = ("best_bits_per_byte", "test_bits_per_byte", "best_epoch")


class TensorBoard(Tracker):
    """Event files of one study.

    Args:
        folder: Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def rows(self, trial: TrackedTrial, rows: Sequence[Evaluation]) -> None:
        """One point an evaluation in every curve that has a number."""
        writer = self._writer(trial)
        for row in rows:
            for name, value in row.model_dump().items():
                if isinstance(value, int | float) and name not in _NOT_CURVES:
                    writer.add_scalar(name, value, row.tokens_seen)
        writer.flush()

    def end(self, trial: TrackedTrial, end: TrialEnd) -> None:
        """Why it ended as text, its settings and results as a row of the table of settings."""
        writer = self._writer(trial)
        writer.add_text("stop", f"{end.stop_reason}: {end.stop_evidence}", end.tokens_seen)
        results = {name: value for name in _RESULTS if (value := getattr(end, name)) is not None}
        for summary in hparams(_plain(trial.facts.config), results):
            writer.file_writer.add_summary(summary)
        for name, value in results.items():
            writer.add_scalar(name, value, end.tokens_seen)
        self.leave(trial.trial_id)

    def leave(self, trial_id: str) -> None:
        """Closes its file; the trial's next leg writes another beside it."""
        if (writer := self._writers.pop(trial_id, None)) is not None:
            writer.close()

    def publish(self, report: Path) -> None:
        """TensorBoard shows no pages."""

    def close(self) -> None:
        """Closes every file."""
        for trial_id in list(self._writers):
            self.leave(trial_id)

    def _writer(self, trial: TrackedTrial) -> SummaryWriter:
        if trial.trial_id not in self._writers:
            name = re.sub(r"[^A-Za-z0-9._=#-]+", "-", trial.name)
            self._writers[trial.trial_id] = SummaryWriter(str(self._folder / f"{name}-{trial.trial_id}"))
        return self._writers[trial.trial_id]


def _plain(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | float | bool]:
    """Settings by dotted path; what is not set is left out."""
    found: dict[str, str | float | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _plain(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return found
