"""What is compared with what: strata that differ in the objective alone, and the configuration that stands for each.

Everything here looks at validation only; the test split has no say in what is chosen.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crossover.platform.analysis.tables import StudyTables, TrialFiles

__all__ = ["Candidate", "Stratum", "pairs_of_strata"]

_OBJECTIVE = "objective.name"


@dataclass(frozen=True)
class Candidate:
    """One configuration of a stratum with its repeats (seeds), in their order.

    Args:
        validation: mean over repeats of the best validation bits per byte.
    """

    config_hash: str
    trials: tuple[TrialFiles, ...]
    validation: float

    @property
    def settings(self) -> dict[str, Any]:
        """The axes' values."""
        return dict(self.trials[0].suggestion.axes)

    def by_repeat(self) -> dict[int, TrialFiles]:
        """Trials by number of the repeat, which is what pairs them with another objective's."""
        return {trial.suggestion.made.repeat: trial for trial in self.trials}


@dataclass(frozen=True)
class Stratum:
    """The trials of one objective in one setting of the other scientific axes.

    Args:
        tuned: it has nuisance settings, so its configurations differ.
        num_configurations: configurations with at least one finite evaluation.
        num_trials: trials, whatever became of them.
        chosen: the best configuration; None while there is no finite evaluation.
    """

    objective: str
    label: str
    setting: Mapping[str, Any]
    tuned: bool
    num_configurations: int
    num_trials: int
    chosen: Candidate | None


def pairs_of_strata(tables: StudyTables) -> list[tuple[Mapping[str, Any], dict[str, Stratum]]]:
    """Settings of the scientific axes but the objective, each with its strata by objective, in order of the study."""
    objectives = dict(zip(tables.trials["trial_id"].to_pylist(), tables.trials["objective"].to_pylist(), strict=True))
    groups: dict[str, dict[str, list[TrialFiles]]] = defaultdict(lambda: defaultdict(list))
    for trial_id, trial in tables.files.items():
        groups[_key(_setting(trial))][objectives[trial_id] or "unknown"].append(trial)
    return [
        (_setting(next(iter(strata.values()))[0]), {name: _stratum(name, trials) for name, trials in strata.items()})
        for strata in groups.values()
    ]


def _setting(trial: TrialFiles) -> dict[str, Any]:
    return {path: value for path, value in trial.suggestion.made.stratum.items() if path != _OBJECTIVE}


def _key(setting: Mapping[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)


def _stratum(objective: str, trials: list[TrialFiles]) -> Stratum:
    by_hash: dict[str, list[TrialFiles]] = defaultdict(list)
    for trial in trials:
        by_hash[trial.suggestion.made.config_hash].append(trial)
    found = [c for c in (_candidate(name, group) for name, group in by_hash.items()) if c is not None]
    return Stratum(
        objective=objective,
        label=trials[0].suggestion.made.stratum_label,
        setting=_setting(trials[0]),
        tuned=any(trial.suggestion.made.settings for trial in trials),
        num_configurations=len(found),
        num_trials=len(trials),
        chosen=_choose(found),
    )


def _candidate(config_hash: str, trials: list[TrialFiles]) -> Candidate | None:
    scored = [trial for trial in trials if _best(trial) is not None]
    finished = [trial for trial in scored if trial.end is not None]
    kept = sorted(finished or scored, key=lambda trial: trial.suggestion.made.repeat)
    if not kept:
        return None
    return Candidate(config_hash, tuple(kept), statistics.fmean(_best(trial) or 0.0 for trial in kept))


def _choose(candidates: Iterable[Candidate]) -> Candidate | None:
    """Best mean among the configurations with the most repeats, ties by hash.

    A search tries many configurations once and confirms the best with more seeds: a configuration seen once would win
    by a lucky seed, and could not carry an interval.
    """
    return min(
        candidates, key=lambda c: (not c.trials[0].end, -len(c.trials), c.validation, c.config_hash), default=None
    )


def _best(trial: TrialFiles) -> float | None:
    bits = trial.values("val_bits_per_byte")
    return min(bits[bits < float("inf")].tolist(), default=None)
