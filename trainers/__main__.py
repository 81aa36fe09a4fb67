"""`python -m crossover.trainers CONFIG.yaml`: one run without a study, and without Ray.

With several workers: `torchrun --nproc-per-node 2 -m crossover.trainers CONFIG.yaml`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crossover.trainers.alone import run_config, speaks_for_machine
from crossover.trainers.errors import CrossoverError

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_USER_MISTAKE = 2


@app.command()
def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of one run: nested, or dotted paths.")],
    output: Annotated[Path | None, typer.Option(help="The run's folder; by default runs/<name of the file>.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the file.")] = None,
) -> None:
    """Trains one configuration; the same command again goes on where it stopped."""
    try:
        code = run_config(config, output, overrides or ())
    except CrossoverError as error:
        if speaks_for_machine():
            print(f"error: {error}", file=sys.stderr)
        code = _USER_MISTAKE
    raise typer.Exit(code)


if __name__ == "__main__":
    app(prog_name="python -m crossover.trainers")
