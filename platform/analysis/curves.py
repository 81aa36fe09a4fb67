"""What the figures draw: the curves of a pair of strata, as plain numbers, the same for the page and for the files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.answers import BASELINE, CHALLENGER, Answer, PairAnswer
from crossover.platform.analysis.tables import StudyTables, TrialFiles

__all__ = ["DrawnObjective", "DrawnPair", "DrawnTrial", "drawn_pairs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DrawnTrial:
    """One trial's curve; evaluations that are not finite are left out.

    Args:
        bits_E: validation, bits per byte.
        validation_E: validation, nats per token.
        training_E: training since the evaluation before, nats per token; NaN where missing.
    """

    trial_id: str
    repeat: int
    chosen: bool
    settings: dict[str, object]
    stop_reason: str | None
    epochs_E: Floats
    bits_E: Floats
    validation_E: Floats
    training_E: Floats

    @property
    def best(self) -> int:
        """Index of the best evaluation."""
        return int(np.argmin(self.bits_E))


@dataclass(frozen=True)
class DrawnObjective:
    """All trials of one objective in one setting, those of the chosen configuration first."""

    name: str
    trials: tuple[DrawnTrial, ...]

    @property
    def seeds(self) -> tuple[DrawnTrial, ...]:
        """Trials of the chosen configuration."""
        return tuple(trial for trial in self.trials if trial.chosen)

    def mean(self, *, best_so_far: bool = False, until: float | None = None) -> tuple[Floats, Floats]:
        """Mean over the seeds, linear in log epochs, as far as all of them go; or to `until`, their last value kept."""
        end = min(t.epochs_E[-1] for t in self.seeds) if until is None else until
        start = max(t.epochs_E[0] for t in self.seeds)
        grid = np.unique(np.concatenate([*(t.epochs_E for t in self.seeds), [end]]))
        grid = grid[(grid >= start) & (grid <= end)]
        curves = [np.minimum.accumulate(t.bits_E) if best_so_far else t.bits_E for t in self.seeds]
        on_grid = [
            np.interp(np.log(grid), np.log(t.epochs_E), bits) for t, bits in zip(self.seeds, curves, strict=True)
        ]
        return grid, np.mean(on_grid, axis=0)


@dataclass(frozen=True)
class DrawnPair:
    """One panel."""

    answer: PairAnswer
    baseline: DrawnObjective | None
    challenger: DrawnObjective | None

    @property
    def objectives(self) -> tuple[DrawnObjective, ...]:
        """Those that have curves."""
        return tuple(found for found in (self.baseline, self.challenger) if found is not None)

    @property
    def epochs_range(self) -> tuple[float, float]:
        """First and last epoch of the chosen curves."""
        seeds = [seed for objective in self.objectives for seed in objective.seeds]
        return float(min(seed.epochs_E[0] for seed in seeds)), float(max(seed.epochs_E[-1] for seed in seeds))

    def is_left(self, epoch: float) -> bool:
        """Whether an epoch lies in the left half of the panel, whose axis is logarithmic."""
        first, last = self.epochs_range
        return epoch**2 < first * last

    def bits_range(self) -> tuple[float, float]:
        """Limits in bits per byte: all chosen curves, but the end of an overfitting that would flatten them."""
        seeds = [seed for objective in self.objectives for seed in objective.seeds]
        low = min(float(seed.bits_E.min()) for seed in seeds)
        high = max(float(seed.bits_E.max()) for seed in seeds)
        start = max(float(seed.bits_E[0]) for seed in seeds)
        top = min(high, start + 0.3 * (start - low))
        margin = 0.05 * (top - low) or 0.1
        return low - margin, top + margin


def drawn_pairs(tables: StudyTables, answer: Answer) -> list[DrawnPair]:
    """The panels of a study that have anything to draw."""
    drawn = [
        DrawnPair(
            pair,
            _objective(tables, pair, BASELINE, () if pair.baseline is None else pair.baseline.trial_ids),
            _objective(tables, pair, CHALLENGER, () if pair.challenger is None else pair.challenger.trial_ids),
        )
        for pair in answer.pairs
    ]
    return [pair for pair in drawn if pair.objectives]


def _objective(tables: StudyTables, pair: PairAnswer, name: str, chosen: Sequence[str]) -> DrawnObjective | None:
    found = []
    for trial in tables.files.values():
        setting = {p: v for p, v in trial.suggestion.made.stratum.items() if p != "objective.name"}
        objective = trial.facts.objective if trial.facts else None
        if objective == name and setting == pair.setting:
            curve = _trial(trial, chosen)
            found += [curve] if curve else []
    found.sort(key=lambda curve: (not curve.chosen, curve.repeat if curve.chosen else 0))
    return DrawnObjective(name, tuple(found)) if any(curve.chosen for curve in found) else None


def _trial(trial: TrialFiles, chosen: Sequence[str]) -> DrawnTrial | None:
    rows = [row for row in trial.evaluations if row.branch == "stable" and math.isfinite(row.val_loss)]
    if not rows:
        return None
    training = [math.nan if row.train_loss is None else row.train_loss for row in rows]
    return DrawnTrial(
        trial_id=trial.suggestion.trial_id,
        repeat=trial.suggestion.made.repeat,
        chosen=trial.suggestion.trial_id in chosen,
        settings=trial.suggestion.axes,
        stop_reason=trial.end.stop_reason if trial.end else None,
        epochs_E=np.array([row.epoch for row in rows]),
        bits_E=np.array([row.val_bits_per_byte for row in rows]),
        validation_E=np.array([row.val_loss for row in rows]),
        training_E=np.array(training),
    )
