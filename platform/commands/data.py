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


class HeldOut(Enum):
    """Splits that no model is trained on."""

    validation = "validation"
    test = "test"


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


@app.command("make-task", short_help="Make questions from a corpus.")
def data_make_task(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Name or folder of a prepared corpus.")],
    output: Annotated[Path, typer.Option(help="File to write, JSONL in HellaSwag's fields.")],
    questions: Annotated[int, typer.Option(min=1, help="Questions.")] = 200,
    endings: Annotated[int, typer.Option(min=2, help="Endings of a question, one of them right.")] = 4,
    context_characters: Annotated[int, typer.Option(min=1, help="Characters that are read.")] = 80,
    ending_characters: Annotated[int, typer.Option(min=1, help="Characters of an ending.")] = 32,
    split: Annotated[HeldOut, typer.Option(help="Documents that passages are cut from.")] = HeldOut.validation,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
) -> None:
    """Make a multiple-choice task from a corpus: continue the passage; wrong endings are of other documents."""
    from crossover.trainers.data import open_corpus
    from crossover.trainers.tasks.make_task import TaskShape, make_task

    shape = TaskShape(questions, context_characters, ending_characters, endings)
    make_task(open_corpus(corpus), output, shape, split.value, seed)
    typer.echo(f"{questions} questions of {endings} endings: {output}")
