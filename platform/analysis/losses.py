"""Per-window losses summed by document: all that comparisons, crossings and their intervals are computed from.

Windows of one document are not independent, so the document is what is resampled and what errors are clustered by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from crossover.platform.analysis.tables import TrialFiles
    from crossover.trainers.record import WindowFacts

__all__ = ["DocumentLosses", "LossCurve", "curve_of", "held_out_test_losses", "same_windows"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DocumentLosses:
    """The held-out losses of one trial on one split, by document.

    Args:
        document_W: document of every window, as scored.
        bytes_W: bytes of every window.
        bytes_D: bytes of every document that has windows.
        nats_DE: nats of every document at every evaluation; one column for the test split.
    """

    document_W: NDArray[np.int64]
    bytes_W: NDArray[np.int64]
    bytes_D: Floats
    nats_DE: Floats

    @classmethod
    def of(cls, facts: WindowFacts, nats: Sequence[NDArray[np.float32]]) -> DocumentLosses:
        """Sum windows by document, in float64."""
        _, index_W = np.unique(facts.document, return_inverse=True)
        columns = [np.bincount(index_W, weights=nats_W.astype(np.float64)) for nats_W in nats]
        bytes_D = np.bincount(index_W, weights=facts.num_bytes.astype(np.float64)).astype(np.float64)
        return cls(facts.document, facts.num_bytes, bytes_D, np.stack(columns, axis=1))


@dataclass(frozen=True)
class LossCurve:
    """One trial's validation losses over its life, up to its last finite one.

    Args:
        epochs_E: epochs of each evaluation, increasing.
        tokens_E: tokens seen.
        flops_E: training FLOPs.
        losses: nats by document and evaluation.
        stop_reason: why the trial ended; None while it has not.
    """

    epochs_E: Floats
    tokens_E: Floats
    flops_E: Floats
    losses: DocumentLosses
    stop_reason: str | None

    @property
    def best(self) -> DocumentLosses:
        """The losses of the best evaluation alone."""
        column = int(self.losses.nats_DE.sum(axis=0).argmin())
        return replace(self.losses, nats_DE=self.losses.nats_DE[:, [column]])


def same_windows(losses: Sequence[DocumentLosses]) -> bool:
    """Whether all were scored on the same windows, without which nothing is paired."""
    first = losses[0]
    return all(
        np.array_equal(first.document_W, other.document_W) and np.array_equal(first.bytes_W, other.bytes_W)
        for other in losses[1:]
    )


def curve_of(trial: TrialFiles) -> LossCurve | None:
    """A trial's curve on the branch that decides; None with fewer than two finite evaluations.

    A loss that is not finite ends the curve: what came before a divergence is still true.
    """
    rows = []
    for row in trial.evaluations:
        if not np.isfinite(row.val_loss):
            break
        rows.append(row)
    if len(rows) < 2:
        return None
    facts = trial.record.window_facts("validation")
    return LossCurve(
        epochs_E=np.array([row.epoch for row in rows]),
        tokens_E=np.array([row.tokens_seen for row in rows], np.float64),
        flops_E=np.array([row.train_flops for row in rows]),
        losses=DocumentLosses.of(facts, [trial.record.window_nats(row.step) for row in rows]),
        stop_reason=None if trial.end is None else trial.end.stop_reason,
    )


def held_out_test_losses(trial: TrialFiles) -> DocumentLosses | None:
    """A trial's losses on the test split at its chosen checkpoint; None before it is scored or if not finite."""
    nats_W = trial.record.test_window_nats()
    if trial.end is None or nats_W is None or not np.isfinite(nats_W).all():
        return None
    return DocumentLosses.of(trial.record.window_facts("test"), [nats_W])
