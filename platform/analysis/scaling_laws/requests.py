"""What the command line asks of a fit, as text, turned into a table and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.analysis.scaling_laws.fitting import FitSettings, fit_law
from crossover.platform.analysis.scaling_laws.predicting import Point
from crossover.platform.analysis.scaling_laws.reading import parse_columns, read_losses
from crossover.platform.analysis.scaling_laws.results import LawFit
from crossover.platform.analysis.scaling_laws.table import ONE_FAMILY, LossTable, LossTableError

__all__ = ["FitRequest", "fitted", "parse_pairs", "table_of"]

_BASE = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class FitRequest:
    """The options of `crossover fit`."""

    law: str = "auto"
    objective: str = "huber"
    share: str = "auto"
    base: str | None = None
    fix: Sequence[str] = ()
    predict: Sequence[str] = ()
    columns: str | None = None
    where: Sequence[str] = ()
    draws: int = 500
    seed: int = 0


def fitted(source: Path, request: FitRequest, output: Path | None = None) -> LawFit:
    """Read, fit and, if asked, write a law file.

    Raises:
        CrossoverError: the table or an option is wrong; nothing is written.
    """
    table = table_of(source, request.columns, request.where, tokens_needed=request.law != "asymptote")
    fixed = {**_base_values(request.base), **_numbers(parse_pairs(request.fix, "--fix"), "--fix")}
    settings = FitSettings(
        law=request.law,
        objective=request.objective,
        share=request.share,
        fixed=fixed,
        num_draws=request.draws,
        seed=request.seed,
        predict=[_point(text, table) for text in request.predict],
    )
    found = fit_law(table, settings)
    if output is not None:
        try:
            output.write_text(found.to_json(draws=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise LossTableError(
                f"cannot write {output}: {error.strerror}; name a file in a folder that exists"
            ) from None
    return found


def table_of(source: Path, columns: str | None, where: Sequence[str], *, tokens_needed: bool = True) -> LossTable:
    """The table that options describe."""
    return read_losses(source, parse_columns(columns), parse_pairs(where, "--where"), tokens_needed=tokens_needed)


def parse_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE`, several times.

    Raises:
        LossTableError: one is no such pair.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise LossTableError(f"{option} {text!r} is no NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _numbers(pairs: Mapping[str, str], option: str) -> dict[str, float]:
    found = {}
    for name, value in pairs.items():
        try:
            found[name] = float(value)
        except ValueError:
            raise LossTableError(f"{option} {name}={value}: {value} is no number") from None
    return found


def _base_values(base: str | None) -> dict[str, float]:
    if base is None:
        return {}
    from crossover.platform.analysis.published_laws import read_law

    law = read_law(base)
    lacking = [name for name in _BASE if name not in law.parameters]
    if lacking:
        raise LossTableError(
            f"--base {base} has no {', '.join(lacking)}: a base law has one value of each of {', '.join(_BASE)}"
        )
    return {name: law.parameters[name] for name in _BASE}


def _point(text: str, table: LossTable) -> Point:
    pairs = parse_pairs(text.split(","), "--predict")
    family = pairs.pop("family", table.families[0] if len(table.families) == 1 else "")
    if not family:
        raise LossTableError(f"--predict {text}: add family=, one of {', '.join(table.families)}")
    values = _numbers(pairs, "--predict")
    unknown = values.keys() - {"N", "D", "U"}
    if unknown or not {"N", "D"} <= values.keys() or min(values.values()) <= 0:
        raise LossTableError(
            f"--predict {text}: give N, D and, for repeated data, U, all above 0, as N=1e9,D=1e11,U=5e9"
        )
    return Point(family or ONE_FAMILY, values["N"], values["D"], values.get("U", values["D"]))
