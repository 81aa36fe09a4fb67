"""The `crossover` command; its subcommands are in `commands/`, a file a subject, and each calls one function.

Exit codes: 0 done, 2 the user's mistake, 3 no usable result, 130 interrupted and resumable.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from crossover.platform.commands import answers, data, jobs, k8s, laws, models, studies
from crossover.platform.commands.arguments import command_group
from crossover.trainers.errors import CrossoverError

__all__ = ["app", "main"]

app = command_group("Finds what to train when unique data runs out: which objective, how large, for how many epochs.")
app.add_typer(studies.app)
app.add_typer(answers.app)
app.add_typer(models.app)
app.add_typer(laws.app)
app.add_typer(data.app, name="data", short_help="Prepare corpora: crossover data prepare.")
app.add_typer(jobs.app)
app.add_typer(jobs.jobs, name="jobs", short_help="Studies submitted to a Ray cluster: crossover jobs list.")
app.add_typer(k8s.app, name="k8s", short_help="Run studies on Kubernetes, by KubeRay.")


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


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, never a traceback."""
    try:
        app(prog_name="crossover")
    except CrossoverError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
