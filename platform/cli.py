"""The `crossover` command: each subcommand calls one function.

Imports happen inside the commands, so that `crossover --help` answers in a fraction of a second and not after torch
and Ray are loaded. Exit codes: 0 done, 2 the user's mistake, 3 no usable result, 130 interrupted and resumable.
"""

from __future__ import annotations

import sys
from enum import Enum, StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from crossover.trainers.errors import CrossoverError

__all__ = ["app", "main"]

app = typer.Typer(
    name="crossover",
    help="Finds what to train when unique data runs out: which objective, how large, for how many epochs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Prepare corpora.", no_args_is_help=True)
app.add_typer(data_app, name="data", short_help="Prepare corpora: crossover data prepare.")

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
StudyFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder, such as runs/quickstart.")]


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


class Undecodable(Enum):
    """What to do with a file that is no UTF-8."""

    strict = "strict"
    replace = "replace"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossover {version('crossover')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Finds what to train when unique data runs out: which objective, how large, for how many epochs."""


@app.command(short_help="Run a study, or resume it.")
def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a built-in study.")],
    storage: Annotated[Path | None, typer.Option(help="Folder of studies; the study gets a folder in it.")] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run and its cost; start nothing.")
    ] = False,
) -> None:
    """Run a study, or resume it: the same command again goes on where it stopped."""
    from crossover.platform.study import read_study

    checked = read_study(study, overrides or ())
    from crossover.platform.execution.launch import run_study  # loads torch and Ray: seconds

    raise typer.Exit(run_study(checked, storage=storage, dry_run=dry_run))


@app.command(short_help="Train one configuration without a study.")
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of one training run.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/<name of the file>.")] = None,
    overrides: Overrides = None,
) -> None:
    """Train one configuration without a study; the same command again resumes it."""
    from crossover.trainers.alone import run_config

    raise typer.Exit(run_config(config, output, overrides or ()))


@app.command(short_help="Print where a study stands.")
def status(directory: StudyFolder) -> None:
    """Where a study stands, from its files alone: works while it runs elsewhere."""
    from crossover.platform.execution.status import print_status

    print_status(directory)


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


@app.command(short_help="Open a study in optuna-dashboard.")
def dashboard(
    directory: StudyFolder,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on this machine; 0: any that is free.")] = 8080,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve it, or only build its view.")] = True,
) -> None:
    """Open a study in optuna-dashboard, also while it runs; its view, optuna.journal, can be deleted."""
    from crossover.platform.execution.dashboard import serve_dashboard

    serve_dashboard(directory, port, serve=serve)


@app.command()
def studies() -> None:
    """List the built-in studies."""
    from crossover.platform.study import builtin_studies, read_study

    for name in builtin_studies():
        typer.echo(f"{name:<16} {read_study(name).description}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study, for editors."""
    from crossover.platform.study import study_schema_text

    typer.echo(study_schema_text(), nl=False)


@data_app.command("prepare", short_help="Turn text into a corpus.")
def data_prepare(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Text files and folders of them.")],
    output: Annotated[Path, typer.Option(help="Folder of the prepared corpus; made by this command.")],
    errors: Annotated[
        Undecodable, typer.Option(help="A file that is no UTF-8: stop, or replace.")
    ] = Undecodable.strict,
    piece_tokens: Annotated[int, typer.Option(min=2, help="Largest piece of a document, in tokens.")] = 2048,
) -> None:
    """Turn text into a corpus: tokens, splits by document, and a manifest."""
    from crossover.trainers.data import prepare_corpus

    manifest = prepare_corpus(sources, output, piece_tokens=piece_tokens, errors=errors.value)
    typer.echo(manifest.summary())


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, never a traceback."""
    try:
        app(prog_name="crossover")
    except CrossoverError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
