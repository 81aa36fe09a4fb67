"""Commands on corpora: `crossover data ...`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import command_group

__all__ = ["app"]

app = command_group("Prepare corpora.")


class Undecodable(Enum):
    """What to do with a file that is no UTF-8."""

    strict = "strict"
    replace = "replace"


@app.command("prepare", short_help="Turn text into a corpus.")
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
