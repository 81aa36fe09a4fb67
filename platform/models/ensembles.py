"""`crossover ensemble`: several trials scored as one, as a table or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from crossover.trainers.ensemble import EnsembleScores, evaluate_ensemble, open_members
from crossover.trainers.evaluate import WindowScores

__all__ = ["score_ensemble"]


def score_ensemble(
    paths: Sequence[Path], split: Literal["validation", "test"], *, as_json: bool, console: Console | None = None
) -> None:
    """Scores the trials at `paths` each by itself and together, and prints what came out.

    Args:
        paths: folders of trials.
        split: held-out text to score.
        as_json: print JSON.
        console: where to print; by default standard output.

    Raises:
        CrossoverError: they make no ensemble, or their corpus is not to be had.
    """
    out = console or Console(highlight=False)
    members = open_members(paths)
    scores = evaluate_ensemble(members, split)
    rows = _rows([member.name for member in members], scores)
    if as_json:
        first = members[0]
        content = {"objective": first.objective.name, "is_bound": scores.is_bound, "split": split, "rows": rows}
        out.print_json(json.dumps(content))
        return
    out.print(_table(rows))
    kind = "bounds (ELBO)" if scores.is_bound else "exact likelihoods"
    out.print(
        f"{members[0].objective.name}, {kind}, {split} text; gains over the mean of the members, paired by window"
    )


def _rows(names: Sequence[str], scores: EnsembleScores) -> list[dict[str, Any]]:
    singles = [_row(name, 1, member) for name, member in zip(names, scores.members, strict=True)]
    together = [
        _row("mean of probabilities", k, found, scores) for k, found in enumerate(scores.by_probabilities, start=2)
    ]
    return [*singles, *together, _row("mean of logits", len(names), scores.by_logits, scores)]


def _row(name: str, num: int, found: WindowScores, scores: EnsembleScores | None = None) -> dict[str, Any]:
    row = {"model": name, "members": num, "nats_per_token": found.loss, "bits_per_byte": found.bits_per_byte}
    row |= {"bits_per_byte_se": _known(found.bits_per_byte_se), "gain": None, "gain_se": None}
    if scores is not None:
        gain = scores.gain(found)
        row |= {"gain": gain.difference, "gain_se": _known(gain.se)}
    return row


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for name in ("members", "nats/token", "bits/byte", "over a member"):
        table.add_column(name, justify="right")
    for row in rows:
        gain = "" if row["gain"] is None else _with_error(row["gain"], row["gain_se"], "+.4f")
        bits = _with_error(row["bits_per_byte"], row["bits_per_byte_se"], ".4f")
        table.add_row(row["model"], str(row["members"]), f"{row['nats_per_token']:.4f}", bits, gain)
    return table


def _with_error(value: float, error: float | None, digits: str) -> str:
    return format(value, digits) if error is None else f"{format(value, digits)} ± {error:.4f}"
