"""What the figures draw: the curves of a pair of strata, as plain numbers, the same for the page and for the files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.answers import BASELINE, CHALLENGER, Answer, PairAnswer
from crossover.platform.analysis.tables import StudyTables, TrialFiles

__all__ = ["DrawnObjective", "DrawnPair", "DrawnTrial", "Over", "drawn_pairs"]

Floats = NDArray[np.float64]
Over = Literal["epochs", "flops"]


@dataclass(frozen=True)
class DrawnTrial:
    """One trial's curve; evaluations that are not finite are left out.

    Args:
        flops_E: training FLOPs so far.
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
    flops_E: Floats
    bits_E: Floats
    validation_E: Floats
    training_E: Floats

    @property
    def best(self) -> int:
        """Index of the best evaluation."""
        return int(np.argmin(self.bits_E))

    def along(self, over: Over) -> Floats:
        """Where its evaluations are, in epochs or training FLOPs."""
        return self.epochs_E if over == "epochs" else self.flops_E


@dataclass(frozen=True)
class DrawnObjective:
    """All trials of one objective in one setting, those of the chosen configuration first."""

    name: str
    trials: tuple[DrawnTrial, ...]

    @property
    def seeds(self) -> tuple[DrawnTrial, ...]:
        """Trials of the chosen configuration."""
        return tuple(trial for trial in self.trials if trial.chosen)

    @property
    def others(self) -> tuple[DrawnTrial, ...]:
        """Trials of the other configurations, best first."""
        return tuple(sorted((t for t in self.trials if not t.chosen), key=lambda t: float(t.bits_E.min())))

    def mean(
        self, *, best_so_far: bool = False, until: float | None = None, over: Over = "epochs"
    ) -> tuple[Floats, Floats]:
        """Mean over the seeds, linear in the logarithm, as far as all go; or to `until`, their last value kept."""
        grid, bits_SG = self._on_grid(best_so_far, until, over)
        return grid, bits_SG.mean(axis=0)

    def spread(self, over: Over = "epochs") -> tuple[Floats, Floats, Floats]:
        """Lowest and highest of the seeds, as far as all of them go."""
        grid, bits_SG = self._on_grid(False, None, over)
        return grid, bits_SG.min(axis=0), bits_SG.max(axis=0)

    def _on_grid(self, best_so_far: bool, until: float | None, over: Over) -> tuple[Floats, Floats]:
        end = min(t.along(over)[-1] for t in self.seeds) if until is None else until
        start = max(t.along(over)[0] for t in self.seeds)
        grid = np.unique(np.concatenate([*(t.along(over) for t in self.seeds), [end]]))
        grid = grid[(grid >= start) & (grid <= end)]
        curves = [np.minimum.accumulate(t.bits_E) if best_so_far else t.bits_E for t in self.seeds]
        return grid, np.stack(
            [np.interp(np.log(grid), np.log(t.along(over)), bits) for t, bits in zip(self.seeds, curves, strict=True)]
        )


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
        return self.range_along("epochs")

    def range_along(self, over: Over) -> tuple[float, float]:
        """First and last epochs or FLOPs of the chosen curves."""
        places = [seed.along(over) for objective in self.objectives for seed in objective.seeds]
        return float(min(place[0] for place in places)), float(max(place[-1] for place in places))

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
    strata: dict[tuple[str, str], list[TrialFiles]] = defaultdict(list)
    for trial in tables.files.values():
        if trial.facts:
            setting = {p: v for p, v in trial.suggestion.made.stratum.items() if p != "objective.name"}
            strata[trial.facts.objective, _key(setting)].append(trial)
    drawn = []
    for pair in answer.pairs:
        both = {BASELINE: pair.baseline, CHALLENGER: pair.challenger}
        chosen = {name: best.trial_ids if best else () for name, best in both.items()}
        drawn.append(
            DrawnPair(pair, *(_objective(name, strata[name, _key(pair.setting)], chosen[name]) for name in chosen))
        )
    return [pair for pair in drawn if pair.objectives]


def _key(setting: Mapping[str, object]) -> str:
    return json.dumps(setting, sort_keys=True)


def _objective(name: str, trials: Sequence[TrialFiles], chosen: Sequence[str]) -> DrawnObjective | None:
    found = [curve for trial in trials if (curve := _trial(trial, chosen))]
    found.sort(key=lambda curve: (not curve.chosen, curve.repeat if curve.chosen else 0))
    return DrawnObjective(name, tuple(found)) if any(curve.chosen for curve in found) else None


def _trial(trial: TrialFiles, chosen: Sequence[str]) -> DrawnTrial | None:
    finite = np.isfinite(trial.values("val_loss"))
    if not finite.any():
        return None
    return DrawnTrial(
        trial_id=trial.suggestion.trial_id,
        repeat=trial.suggestion.made.repeat,
        chosen=trial.suggestion.trial_id in chosen,
        settings=trial.suggestion.axes,
        stop_reason=trial.end.stop_reason if trial.end else None,
        epochs_E=trial.values("epoch")[finite],
        flops_E=trial.values("train_flops")[finite],
        bits_E=trial.values("val_bits_per_byte")[finite],
        validation_E=trial.values("val_loss")[finite],
        training_E=trial.values("train_loss")[finite],
    )
