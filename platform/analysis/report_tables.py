"""The report's tables: what the template prints, as text. Every value comes from the study's tables and its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from crossover.platform.analysis.answers import Answer, Best, PairAnswer
from crossover.platform.analysis.crossings import Crossing, Quantiles
from crossover.platform.analysis.palette import STOP_WORDS
from crossover.platform.analysis.scaling_laws import LawFit
from crossover.platform.analysis.tables import StudyTables
from crossover.platform.analysis.wording import SHORT, amount, epochs_interval, signed

__all__ = [
    "crossing_rows",
    "facts",
    "kind_of",
    "law_rows",
    "seed_rows",
    "settings_table",
    "study_summary",
    "trial_note",
    "trial_rows",
]

MAX_ROWS = 1_000


def study_summary(tables: StudyTables, found: Answer) -> str:
    """One line: how much was run, and at what cost."""
    trials = tables.trials
    counts = ", ".join(f"{count} {status}" for status, count in found.counts.items())
    tokens = sorted({value for value in trials["unique_tokens"].to_pylist() if value is not None})
    unique = f" on {_listed([amount(value) for value in tokens])} unique tokens" if tokens else ""
    spent = sum(_known(trials, "train_flops")) + sum(_known(trials, "eval_flops"))
    hours = _time(sum(_known(trials, "wall_seconds")))
    return (
        f"{trials.num_rows} trials ({counts}){unique}; {amount(spent)} FLOPs, {hours} of work in all trials together."
    )


def kind_of(pair: PairAnswer) -> str:
    """How the two sides were chosen, and in which setting."""
    setting = ", ".join(f"{path} = {value}" for path, value in pair.setting.items())
    bests = [best for best in (pair.baseline, pair.challenger) if best]
    if pair.same_recipe:
        chosen = "the same settings for both objectives, nothing tuned"
    elif bests:
        each = ", ".join(_one_of(best) for best in bests)
        chosen = f"the best configuration on validation: {each}"
    else:
        chosen = "nothing evaluated yet"
    return f"{setting}; {chosen}" if setting else chosen


def _one_of(best: Best) -> str:
    configurations = "configuration" if best.num_configurations == 1 else "configurations"
    seeds = f"{len(best.trial_ids)} seed{'s' if len(best.trial_ids) > 1 else ''}"
    return f"{SHORT.get(best.objective, best.objective)} of {best.num_configurations} {configurations} ({seeds})"


def crossing_rows(found: Answer) -> list[dict[str, str]]:
    """Each crossing in epochs, tokens and FLOPs, with intervals."""
    return [
        _crossing_row(pair.title, crossing)
        for pair in found.pairs
        for crossing in (pair.equal_epochs, pair.envelope)
        if crossing is not None
    ]


def _crossing_row(title: str, crossing: Crossing) -> dict[str, str]:
    gap = crossing.gap
    values = [value for value in (gap.estimate, gap.low, gap.high) if value is not None]
    against = "AR at equal epochs" if crossing.against == "equal_epochs" else "AR's best so far"
    return {
        "title": title,
        "against": f"{against}, at the latest" if crossing.carried_forward else against,
        "epochs": epochs_interval(crossing),
        "tokens": _with_interval(crossing.tokens),
        "flops": _with_interval(crossing.flops),
        "none": f"{crossing.probability_none:.0%} up to {crossing.last_epoch:.3g}",
        "gap": f"{signed(values[0])} [{signed(values[1])}, {signed(values[2])}]" if len(values) == 3 else "",
    }


def _with_interval(values: Quantiles) -> str:
    if values.low is None:
        return "none" if values.estimate is None else f"{amount(values.estimate)} [beyond]"
    low, high = amount(values.low), amount(values.high, "beyond")
    return f"{amount(values.estimate, 'none')} [{low}, {high}]"


def seed_rows(found: Answer) -> list[dict[str, Any]]:
    """Each seed of each pair."""
    rows = []
    for pair in found.pairs:
        for seed in pair.seeds:
            values = (
                seed.baseline_validation,
                seed.challenger_validation,
                seed.baseline_test,
                seed.challenger_test,
            )
            difference = "" if seed.difference is None else f"{signed(seed.difference)} ± {seed.difference_se:.3f}"
            shown = [*(_bits(value) for value in values), difference]
            rows.append({"title": pair.title, "repeat": seed.repeat, "cells": shown})
    return rows


def law_rows(fit: LawFit | str) -> list[dict[str, str]]:
    """Each parameter of the study's law, with its interval or why there is none."""
    if isinstance(fit, str):
        return []
    return [
        {
            "name": parameter.name,
            "value": f"{parameter.value:.4g}",
            "interval": f"[{_end(parameter.low)}, {_end(parameter.high)}]",
            "note": "" if parameter.identified else f"not identified: {parameter.reason or 'the interval is too wide'}",
        }
        for parameter in fit.parameters
    ]


def _end(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def trial_rows(tables: StudyTables, found: Answer) -> list[dict[str, Any]]:
    """Each trial, and why it ended."""
    chosen = _chosen(found)
    return [
        {
            "trial_id": row["trial_id"],
            "chosen": row["trial_id"] in chosen,
            "stratum": row["stratum"],
            "number": row["number"],
            "repeat": row["repeat"],
            "ended": STOP_WORDS.get(row["stop_reason"] or "", row["status"]),
            "best": _with_error(row["best_bits_per_byte"], row["best_bits_per_byte_se"]),
            "best_epoch": _number(row["best_epoch"]),
            "test": _with_error(row["test_bits_per_byte"], row["test_bits_per_byte_se"]),
            "epochs": _number(row["epochs"]),
            "flops": "" if row["train_flops"] is None else amount(row["train_flops"]),
            "time": "" if row["wall_seconds"] is None else _time(row["wall_seconds"]),
            "evidence": "" if row["stop_reason"] == "completed" else row["stop_evidence"] or "",
        }
        for row in tables.trials.slice(0, MAX_ROWS).to_pylist()
    ]


def trial_note(tables: StudyTables, found: Answer) -> str:
    """What the rows of the trials' table mean, and how many are left out."""
    words = "Bits per byte ± standard error. Marked: the configurations that were chosen on validation."
    if tables.trials.num_rows > MAX_ROWS:
        words += f" The first {MAX_ROWS} of {tables.trials.num_rows} trials; `crossover results` has all of them."
    return words


def settings_table(tables: StudyTables, found: Answer) -> dict[str, Any]:
    """Each trial's value of each axis."""
    chosen = _chosen(found)
    kept = list(tables.files.values())[:MAX_ROWS]
    names = list(dict.fromkeys(path for trial in kept for path in trial.suggestion.axes))
    best = dict(
        zip(tables.trials["trial_id"].to_pylist(), tables.trials["best_bits_per_byte"].to_pylist(), strict=True)
    )
    rows = [
        {
            "trial_id": trial.suggestion.trial_id,
            "chosen": trial.suggestion.trial_id in chosen,
            "cells": [_setting(trial.suggestion.axes.get(name)) for name in names],
            "best": _bits(best[trial.suggestion.trial_id]),
        }
        for trial in kept
    ]
    return {"names": names, "rows": rows if names else []}


def facts(tables: StudyTables) -> list[tuple[str, str]]:
    """Where the numbers come from: data, versions, commit, hardware, cost."""
    trials = tables.trials
    started = [trial.facts for trial in tables.files.values() if trial.facts]
    packages = sorted({f"{name} {version}" for known in started for name, version in known.packages.items()})
    created = sorted(known.created for known in started)
    shown = [
        ("Corpus", _listed(sorted({known.corpus for known in started}))),
        ("Corpus hash", tables.frozen.data_hash),
        ("Unique tokens", _listed([f"{value:,}" for value in sorted({known.unique_tokens for known in started})])),
        ("Training subsets", f"{len({known.subset_hash for known in started})} different"),
        ("Parameters in matrix products", _listed(_counts([known.num_params_active for known in started]))),
        ("Parameters with embeddings", _listed(_counts([known.num_params_with_embeddings for known in started]))),
        ("Written by", f"crossover {tables.frozen.version}"),
        ("Commit", _listed(sorted({known.git_commit or "unknown" for known in started}))),
        ("Packages", _listed(packages)),
        ("Python", _listed(sorted({known.python for known in started}))),
        ("Device", _listed(sorted(set(_known(trials, "device"))))),
        ("Precision", _listed(sorted(set(_known(trials, "precision"))))),
        ("Training FLOPs", amount(sum(_known(trials, "train_flops")))),
        ("Evaluation FLOPs", amount(sum(_known(trials, "eval_flops")))),
        ("Work in all trials together", _time(sum(_known(trials, "wall_seconds")))),
        ("Of it evaluation", _evaluation_share(trials)),
        ("First and last trial started", f"{created[0]} and {created[-1]}" if created else ""),
    ]
    return [(name, value) for name, value in shown if value]


def _evaluation_share(trials: Any) -> str:
    """Empty where nothing took time, or records are older than the column."""
    evaluation, all_seconds = (sum(_known(trials, name)) for name in ("eval_seconds", "wall_seconds"))
    return f"{evaluation / all_seconds:.1%}" if evaluation and all_seconds else ""


def _chosen(found: Answer) -> set[str]:
    bests = [best for pair in found.pairs for best in (pair.baseline, pair.challenger) if best]
    return {trial_id for best in bests for trial_id in best.trial_ids}


def _known(table: Any, name: str) -> list[Any]:
    return [value for value in table[name].to_pylist() if value is not None]


def _counts(values: Sequence[int]) -> list[str]:
    return [f"{value:,}" for value in sorted(set(values))]


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values)


def _setting(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
