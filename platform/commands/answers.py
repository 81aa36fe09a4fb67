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
    from crossover.platform.analysis import answer, load_study, print_answer

    tables = load_study(directory)
    found = answer(tables)
    if as_json:
        typer.echo(found.to_json())
        return
    from crossover.platform.analysis.figures import Findings
    from crossover.platform.analysis.report import write_report

    page = write_report(Findings(tables, found))
    print_answer(found)
    typer.echo(f"\nreport: {tables.place.shown(page)}")


@app.command(short_help="Write one figure of a study as SVG, PNG, PDF or HTML.")
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which figure; a name that there is not lists them.")],
    directory: StudyFolder,
    output: Annotated[
        Path | None, typer.Option(help="File to write, .svg, .png, .pdf or .html; by default DIR/figures/NAME.svg.")
    ] = None,
) -> None:
    """Write one figure of a study: SVG, PNG and PDF without a browser, HTML to look into."""
    from crossover.platform.analysis.figures import write_figure

    typer.echo(f"figure: {write_figure(name, directory, output)}")
