"""Rows for a law from a CSV or Parquet file, or from a study's folder.

A file's columns are found by name (N, D, U, loss, family, run, epochs, or those of our own tables) or named by the
caller; others are ignored. Of a study, the configuration that stands for each stratum gives its evaluations: the others
were badly tuned, and no law is about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.table import LossTable, LossTableError
from crossover.platform.analysis.selection import pairs_of_strata
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.search_spaces import near

__all__ = ["IN_SIZE_AND_TOKENS", "losses_of_study", "parse_columns", "read_losses"]

_NAMES: dict[str, tuple[str, ...]] = {
    "N": ("N", "num_params_active"),
    "D": ("D", "tokens_seen"),
    "U": ("U", "unique_tokens"),
    "loss": ("loss", "val_loss"),
    "family": ("family", "objective"),
    "run": ("run", "trial_id"),
    "epochs": ("epochs", "epoch"),
}
_WORDS = frozenset({"family", "run"})
IN_SIZE_AND_TOKENS = frozenset(
    {"objective.name", "data.unique_tokens", "model.size", "model.width", "model.num_layers", "model.num_heads"}
)


def read_losses(
    source: Path | str,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    *,
    tokens_needed: bool = True,
) -> LossTable:
    """Read a table.

    Args:
        source: a CSV or Parquet file, or a study's folder.
        columns: the file's own name of a column, by N, D, U, loss, family, run or epochs.
        where: only rows in which a column has this value, as {"excluded_by_epoch": "0"}.
        tokens_needed: False for laws of N alone.

    Raises:
        LossTableError: the file cannot be read, lacks a column or holds values that cannot be.
    """
    path = Path(source)
    if path.is_dir():
        if columns or where:
            raise LossTableError(f"{path} is a study's folder: its columns are known, leave --columns and --where out")
        return losses_of_study(load_study(path))
    table = _kept(_read_file(path), where or {}, path.name)
    names = _own_names(table.column_names, columns or {}, path.name)
    found = {name: _column(table, own, name, path.name) for name, own in names.items()}
    return LossTable.of(found, path.name, tokens_needed=tokens_needed)


def parse_columns(text: str | None) -> dict[str, str]:
    """`N=params,D=tokens` as a mapping.

    Raises:
        LossTableError: it is no such list, or names what no law has.
    """
    if not text:
        return {}
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, own = part.partition("=")
        if not equals or not own.strip():
            raise LossTableError(f"--columns {part!r} is no NAME=COLUMN: give them as N=params,D=tokens,loss=val_loss")
        if name.strip() not in _NAMES:
            raise LossTableError(
                f"--columns {part!r}: {name.strip()} is none of {', '.join(_NAMES)}{near(name.strip(), list(_NAMES))}"
            )
        found[name.strip()] = own.strip()
    return found


def losses_of_study(tables: StudyTables) -> LossTable:
    """The evaluations of the configurations that stand for the study's strata; losses in nats a token.

    A family is an objective, with the scientific settings that are neither size nor unique tokens, if any vary.

    Raises:
        LossTableError: no trial has a finite evaluation.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _NAMES}
    for setting, strata in pairs_of_strata(tables):
        label = "".join(f", {path}={value}" for path, value in setting.items() if path not in IN_SIZE_AND_TOKENS)
        for stratum in strata.values():
            for trial in () if stratum.chosen is None else stratum.chosen.trials:
                rows = [row for row in trial.evaluations if np.isfinite(row.val_loss)]
                if trial.facts is None or not rows:
                    continue
                columns["N"] += [trial.facts.num_params_active] * len(rows)
                columns["D"] += [row.tokens_seen for row in rows]
                columns["U"] += [row.unique_tokens for row in rows]
                columns["loss"] += [row.val_loss for row in rows]
                columns["epochs"] += [row.epoch for row in rows]
                columns["family"] += [f"{stratum.objective}{label}"] * len(rows)
                columns["run"] += [trial.suggestion.trial_id] * len(rows)
    if not columns["N"]:
        raise LossTableError(f"{tables.path}: no trial has a finite evaluation yet")
    arrays = {name: np.array(v, np.str_ if name in _WORDS else np.float64) for name, v in columns.items()}
    return LossTable.of(arrays, str(tables.path))


def _read_file(path: Path) -> pa.Table:
    readers = {".csv": pa_csv.read_csv, ".parquet": pa_parquet.read_table}
    if path.suffix.lower() not in readers:
        raise LossTableError(f"{path} is no table: give a .csv or .parquet file, or a study's folder")
    try:
        return readers[path.suffix.lower()](path)
    except FileNotFoundError:
        raise LossTableError(f"{path} does not exist: give a .csv or .parquet file, or a study's folder") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise LossTableError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _kept(table: pa.Table, where: Mapping[str, str], source: str) -> pa.Table:
    for name, value in where.items():
        if name not in table.column_names:
            raise LossTableError(
                f"{source} has no column {name}{near(name, table.column_names)}: it has {', '.join(table.column_names)}"
            )
        texts = [_text(cell) for cell in table[name].to_pylist()]
        table = table.filter(pa.array([text == value for text in texts]))
    return table


def _text(cell: object) -> str:
    return f"{cell:g}" if isinstance(cell, float) and cell.is_integer() else str(cell)


def _own_names(present: Sequence[str], given: Mapping[str, str], source: str) -> dict[str, str]:
    for name, own in given.items():
        if own not in present:
            raise LossTableError(
                f"{source} has no column {own}, which --columns names as {name}{near(own, list(present))}: it has "
                f"{', '.join(present)}"
            )
    known = {name: next((own for own in owns if own in present), None) for name, owns in _NAMES.items()}
    return {name: own for name, own in {**known, **given}.items() if own is not None}


def _column(table: pa.Table, own: str, name: str, source: str) -> NDArray[Any]:
    column = table[own]
    if name in _WORDS:
        if column.null_count:
            raise LossTableError(f"{source}: {own} is empty in {column.null_count} rows: name every row's {name}")
        return np.array([_text(cell) for cell in column.to_pylist()], np.str_)
    if column.null_count == len(column):
        return np.full(len(column), np.nan)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        shown = next((cell for cell in column.to_pylist() if not _is_number(cell)), None)
        raise LossTableError(f"{source}: {own} holds {shown!r}, but {name} must be numbers")
    filled: NDArray[Any] = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return filled


def _is_number(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return False
    return True
