"""Tables for people and programs: a terminal table of chosen columns, or every column as CSV, Parquet or JSON."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossover.trainers.errors import CrossoverError

__all__ = ["TableFormatError", "write_table"]

_MIN_WIDTH = 200

_SHOWN = {
    "trials": (
        *("trial_id", "stratum", "number", "repeat", "status", "stop_reason", "best_bits_per_byte", "best_epoch"),
        *("test_bits_per_byte", "test_bits_per_byte_se", "epochs", "wall_seconds"),
    ),
    "evaluations": (
        *("trial_id", "epoch", "tokens_seen", "train_loss", "val_loss", "val_loss_se", "val_bits_per_byte"),
        "rise_over_best",
    ),
}


class TableFormatError(CrossoverError):
    """A table that cannot be written as asked."""


def write_table(table: pa.Table, format: str = "table", where: Path | None = None) -> None:
    """Write a table.

    Args:
        table: `trials` or `evaluations` of a study.
        format: table (chosen columns, for reading), csv, parquet or json (a list of rows). Missing values are empty in
            CSV and null in the others; JSON has no NaN, so a loss that is not finite is null there as well.
        where: file to write; None: standard output, which Parquet refuses.

    Raises:
        TableFormatError: unknown format, Parquet on standard output, or a file that cannot be written.
    """
    writers: dict[str, Callable[[pa.Table], bytes]] = {
        "table": _as_text,
        "csv": _as_csv,
        "parquet": _as_parquet,
        "json": _as_json,
    }
    if format not in writers:
        raise TableFormatError(f"{format!r} is no format of a table: choose one of {', '.join(writers)}")
    if where is None and format == "table":
        sys.stdout.write(_as_text(table).decode())
    elif where is None:
        if format == "parquet":
            raise TableFormatError("parquet is binary and does not go to the screen: name a file with --output")
        sys.stdout.write(writers[format](table).decode())
    else:
        _write_file(where, writers[format](table))


def _write_file(where: Path, content: bytes) -> None:
    try:
        where.write_bytes(content)
    except OSError as error:
        raise TableFormatError(f"cannot write {where}: {error.strerror}; name a file in a folder that exists") from None


def _as_csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def _as_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa_parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def _as_json(table: pa.Table) -> bytes:
    rows = [{name: _finite(value) for name, value in row.items()} for row in table.to_pylist()]
    return (json.dumps(rows, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(table: pa.Table) -> bytes:
    """As wide as the terminal if it is wide enough, else as wide as the rows need: a folded id cannot be copied."""
    width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(_rich_table(table))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()).encode()


def _rich_table(table: pa.Table) -> Table:
    kind = "trials" if "stop_reason" in table.column_names else "evaluations"
    names = [name for name in _SHOWN[kind] if name in table.column_names]
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        numeric = pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type)
        shown.add_column(_heading(name), justify="right" if numeric else "left", no_wrap=True)
    for row in table.select(names).to_pylist():
        shown.add_row(*(escape(_cell(name, row[name])) for name in names))
    return shown


def _heading(name: str) -> str:
    for long, short in (("_bits_per_byte", " bits/byte"), ("_seconds", " s"), ("stop_reason", "reason"), ("_", " ")):
        name = name.replace(long, short)
    return name


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith(("epoch", "epochs")):
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    if name == "wall_seconds":
        return f"{value:.0f}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
