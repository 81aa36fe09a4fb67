"""The answer of a study, computed from its record alone: where the curves cross and who is ahead on test.

`answer` is a pure function of the tables; the report, the command line and `--json` all say what it found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from crossover.platform.analysis import wording
from crossover.platform.analysis.comparisons import Mean, mean_difference, mean_over_seeds
from crossover.platform.analysis.crossings import Crossing, find_crossings
from crossover.platform.analysis.losses import LossCurve, curve_of, held_out_test_losses, same_windows
from crossover.platform.analysis.selection import Stratum, pairs_of_strata
from crossover.platform.analysis.tables import StudyTables, TrialFiles

__all__ = ["BASELINE", "CHALLENGER", "Answer", "Best", "PairAnswer", "SeedRow", "answer"]

BASELINE, CHALLENGER = "autoregressive", "masked_diffusion"
RESOLVED_ERRORS = 1.96  # paired standard errors below which a difference on one seed's held-out text may be chance


@dataclass(frozen=True)
class Best:
    """The configuration that stands for one objective.

    Args:
        is_bound: its losses are an ELBO, an upper bound of the NLL.
        num_configurations: it was chosen among so many.
        validation: mean over seeds of the best validation bits per byte.
        best_epochs: each seed's best epoch.
        test: bits per byte on test at the checkpoints chosen on validation; None before they are scored.
    """

    objective: str
    is_bound: bool
    config_hash: str
    settings: dict[str, Any]
    trial_ids: tuple[str, ...]
    num_configurations: int
    num_trials: int
    finished: bool
    validation: float
    best_epochs: tuple[float, ...]
    stop_reasons: tuple[str | None, ...]
    test: Mean | None


@dataclass(frozen=True)
class SeedRow:
    """One seed of a pair, in bits per byte; a difference is masked diffusion less autoregressive."""

    repeat: int
    baseline_id: str
    challenger_id: str
    baseline_validation: float | None
    challenger_validation: float | None
    baseline_test: float | None
    challenger_test: float | None
    difference: float | None
    difference_se: float | None


@dataclass(frozen=True)
class PairAnswer:
    """Two strata that differ in the objective alone.

    Args:
        same_recipe: the chosen configurations are equal in everything but objective and seeds.
        test: masked diffusion less autoregressive, bits per byte.
        crossing_words: where the curves cross, in plain words.
        test_words: who is ahead on test; None before both were scored.
        best_words: the best of each objective.
        notes: what limits the answer.
    """

    title: str
    setting: dict[str, Any]
    same_recipe: bool
    baseline: Best | None
    challenger: Best | None
    equal_epochs: Crossing | None
    envelope: Crossing | None
    test: Mean | None
    seeds: tuple[SeedRow, ...]
    crossing_words: tuple[str, ...]
    test_words: str | None
    best_words: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a study found out.

    Args:
        counts: trials by status.
        finished: no trial waits, runs or is paused.
    """

    study: str
    counts: dict[str, int]
    finished: bool
    pairs: tuple[PairAnswer, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def usable(self) -> bool:
        """Whether there is a comparison of any kind."""
        return any(pair.equal_epochs or pair.envelope or pair.test for pair in self.pairs)

    def to_json(self) -> str:
        """The answer for programs; what is not known is null."""
        return json.dumps(asdict(self), indent=2, allow_nan=False, default=str)


def answer(tables: StudyTables) -> Answer:
    """Answer both questions for every pair of strata that differ in the objective alone."""
    statuses = tables.trials["status"].to_pylist()
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    pairs = tuple(_pair(setting, strata) for setting, strata in pairs_of_strata(tables))
    finished = not counts.keys() & {"waiting", "running", "paused"}
    notes = [] if finished else [wording.unfinished(counts)]
    if lost := [f"trials/{trial_id}" for trial_id, trial in tables.files.items() if trial.is_lost]:
        notes.append(wording.lost(lost))
    return Answer(study=tables.study.name, counts=counts, finished=finished, pairs=pairs, notes=tuple(notes))


def _pair(setting: Mapping[str, Any], strata: Mapping[str, Stratum]) -> PairAnswer:
    baseline, challenger = (_best(strata.get(name)) for name in (BASELINE, CHALLENGER))
    matched = _matched(strata)
    notes: list[str] = []
    curves = _curves(matched, notes) if matched else None
    crossings = find_crossings(*curves) if curves else {}
    test = _test(matched, notes) if matched else None
    tuned = any(stratum.tuned for stratum in strata.values())
    same = not tuned and _same_recipe(strata)
    return PairAnswer(
        title=wording.title(setting, tuned=tuned, same_recipe=same, num_objectives=len(strata)),
        setting=dict(setting),
        same_recipe=same,
        baseline=baseline,
        challenger=challenger,
        equal_epochs=crossings.get("equal_epochs"),
        envelope=crossings.get("envelope"),
        test=test,
        seeds=tuple(_seed_row(repeat, *trials) for repeat, trials in matched.items()),
        crossing_words=wording.crossing_words(list(crossings.values())),
        test_words=None if test is None else wording.ahead_sentence(test),
        best_words=tuple(wording.best_sentence(best) for best in (baseline, challenger) if best),
        notes=tuple(notes) + tuple(_too_little_validation(curves)) + tuple(wording.missing(strata, matched)),
    )


def _matched(strata: Mapping[str, Stratum]) -> dict[int, tuple[TrialFiles, TrialFiles]]:
    """The chosen configurations' trials by repeat, where both objectives have it."""
    chosen = [strata[name].chosen if name in strata else None for name in (BASELINE, CHALLENGER)]
    first, second = (candidate.by_repeat() if candidate else {} for candidate in chosen)
    return {repeat: (first[repeat], second[repeat]) for repeat in sorted(first.keys() & second.keys())}


def _curves(
    matched: Mapping[int, tuple[TrialFiles, TrialFiles]], notes: list[str]
) -> tuple[list[LossCurve], list[LossCurve]] | None:
    read = [(curve_of(first), curve_of(second)) for first, second in matched.values()]
    both = [(first, second) for first, second in read if first and second]
    if len(both) < len(read):
        notes.append(wording.left_out(len(read) - len(both), len(read), "fewer than two finite evaluations"))
    if not both:
        return None
    if not same_windows([curve.losses for pair in both for curve in pair]):
        notes.append(wording.other_windows("validation"))
        return None
    return [first for first, _ in both], [second for _, second in both]


def _too_little_validation(curves: tuple[list[LossCurve], list[LossCurve]] | None) -> Iterator[str]:
    """Whether the validation split is too small for the difference that is claimed between the best checkpoints."""
    if curves is None:
        return
    baseline, challenger = ([curve.best for curve in side] for side in curves)
    found = mean_difference(challenger, baseline)
    resolved = RESOLVED_ERRORS * float(np.median(found.per_seed_se))
    if not abs(found.mean) >= resolved:  # also where there is one document, and no error
        yield wording.too_little_validation(found.mean, resolved, len(baseline[0].bytes_D))


def _test(matched: Mapping[int, tuple[TrialFiles, TrialFiles]], notes: list[str]) -> Mean | None:
    read = [(held_out_test_losses(first), held_out_test_losses(second)) for first, second in matched.values()]
    both = [(first, second) for first, second in read if first and second]
    if len(both) < len(read):
        notes.append(wording.left_out(len(read) - len(both), len(read), "no score on test"))
    if not both:
        return None
    if not same_windows([losses for pair in both for losses in pair]):
        notes.append(wording.other_windows("test"))
        return None
    return mean_difference([second for _, second in both], [first for first, _ in both])


def _best(stratum: Stratum | None) -> Best | None:
    if stratum is None or stratum.chosen is None:
        return None
    trials = stratum.chosen.trials
    facts = next((trial.facts for trial in trials if trial.facts), None)
    return Best(
        objective=stratum.objective,
        is_bound=bool(facts and facts.is_bound),
        config_hash=stratum.chosen.config_hash,
        settings=stratum.chosen.settings,
        trial_ids=tuple(trial.suggestion.trial_id for trial in trials),
        num_configurations=stratum.num_configurations,
        num_trials=stratum.num_trials,
        finished=all(trial.end is not None for trial in trials),
        validation=stratum.chosen.validation,
        best_epochs=tuple(_best_epoch(trial) for trial in trials),
        stop_reasons=tuple(trial.end.stop_reason if trial.end else None for trial in trials),
        test=_mean_test(trials),
    )


def _best_epoch(trial: TrialFiles) -> float:
    finite = (row for row in trial.evaluations if math.isfinite(row.decision_loss))
    return min(finite, key=lambda row: row.decision_loss).epoch


def _mean_test(trials: tuple[TrialFiles, ...]) -> Mean | None:
    losses = [found for found in map(held_out_test_losses, trials) if found is not None]
    if not losses or not same_windows(losses):
        return None
    return mean_over_seeds(np.stack([found.nats_DE[:, 0] for found in losses]), losses[0].bytes_D)


def _seed_row(repeat: int, first: TrialFiles, second: TrialFiles) -> SeedRow:
    losses = held_out_test_losses(first), held_out_test_losses(second)
    paired = None
    if losses[0] is not None and losses[1] is not None and same_windows([losses[0], losses[1]]):
        paired = mean_difference([losses[1]], [losses[0]])
    return SeedRow(
        repeat=repeat,
        baseline_id=first.suggestion.trial_id,
        challenger_id=second.suggestion.trial_id,
        baseline_validation=_validation(first),
        challenger_validation=_validation(second),
        baseline_test=first.end.test_bits_per_byte if first.end else None,
        challenger_test=second.end.test_bits_per_byte if second.end else None,
        difference=None if paired is None else paired.mean,
        difference_se=None if paired is None else paired.per_seed_se[0],
    )


def _validation(trial: TrialFiles) -> float | None:
    finite = (row.val_bits_per_byte for row in trial.evaluations if math.isfinite(row.val_loss))
    return min(finite, default=None)


def _same_recipe(strata: Mapping[str, Stratum]) -> bool:
    """Whether both chosen configurations are one recipe, by the whole of what was run and not by the axes alone."""
    configs = []
    for name in (BASELINE, CHALLENGER):
        stratum = strata.get(name)
        facts = stratum.chosen.trials[0].facts if stratum and stratum.chosen else None
        if facts is None:
            return False
        config = {k: v for k, v in facts.config.items() if k not in ("objective", "seed", "checkpoint", "execution")}
        config["data"] = {k: v for k, v in config.get("data", {}).items() if k != "seed"}
        configs.append(config)
    return bool(configs[0] == configs[1])
