"""Commands that read what a study found: tables, answer, report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import StudyFolder, command_group

__all__ = ["app"]

app = command_group()


class Table(StrEnum):
    """Tables of a study."""

    trials = "trials"
    evaluations = "evaluations"


class Format(StrEnum):
    """Formats of a table."""

    table = "table"
    csv = "csv"
    parquet = "parquet"
    json = "json"


@app.command()
def results(
    directory: StudyFolder,
    table: Annotated[Table, typer.Option(help="Which table.")] = Table.trials,
    format: Annotated[Format, typer.Option(help="How it is written.")] = Format.table,
    output: Annotated[Path | None, typer.Option(help="File to write; by default the screen.")] = None,
) -> None:
    """Print a study's tables, or write them to a file."""
    from crossover.platform.analysis.tables import load_study, write_table

    tables = load_study(directory)
    write_table(getattr(tables, table.value), format.value, output)


@app.command(short_help="Print the answer, write the report.")
def report(
    directory: StudyFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON instead.")] = False,
) -> None:
    """Write the study's report: one HTML page that works offline, and the figures as SVG and PNG."""
    from crossover.platform.analysis import answer, load_study, print_answer, write_report

    found = answer(load_study(directory))
    if as_json:
        typer.echo(found.to_json())
        return
    page = write_report(directory)
    print_answer(found)
    typer.echo(f"\nreport: {page}")
