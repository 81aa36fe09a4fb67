"""Commands on corpora: `crossover data ...`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import command_group

__all__ = ["app"]

app = command_group("Prepare corpora, look at them, check them.")


class Errors(Enum):
    """What to do with a document that is no text."""

    strict = "strict"
    replace = "replace"
    skip = "skip"


class Quality(Enum):
    """What scores documents."""

    compression = "compression"
    language_model = "language_model"


class HeldOut(Enum):
    """Splits that no model is trained on."""

    validation = "validation"
    test = "test"


@app.command("prepare", short_help="Turn text into a corpus.")
def data_prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, patterns; paths or URIs (s3://...). Text, .jsonl, .parquet; also .gz, .zst.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the prepared corpus; made by this command.")],
    tokenizer: Annotated[
        str, typer.Option(help="bytes, bpe:8192 (trained on the corpus), or a tokenizer.json.")
    ] = "bytes",
    text_column: Annotated[str, typer.Option(help="Column of the text in .jsonl and .parquet.")] = "text",
    errors: Annotated[
        Errors, typer.Option(help="What is no text, or a broken line: stop, repair, or leave out.")
    ] = Errors.strict,
    piece_tokens: Annotated[int, typer.Option(min=2, help="Largest piece of a document, in tokens.")] = 2048,
    near_duplicates: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Similarity from which training text near held-out text is dropped; 0: none is."
        ),
    ] = 0.8,
    quality: Annotated[Quality | None, typer.Option(help="Scorer that cuts the training text into tiers.")] = None,
    quality_column: Annotated[str | None, typer.Option(help="Column of a score; higher is better.")] = None,
    tiers: Annotated[int, typer.Option(min=2, max=100, help="Tiers of quality, of equal tokens.")] = 3,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default as many as cores and 2 GB allow.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run on a Ray cluster, by Ray Data.")] = False,
) -> None:
    """Turn text into a corpus: tokens, splits by document, and a manifest.

    A file of text, a line of JSON or a row of Parquet is one document.
    The same command goes on where it was interrupted.
    """
    from crossover.platform.data.preparing import prepare
    from crossover.trainers.data.preparation.readers import Columns

    manifest = prepare(
        sources,
        output,
        workers=workers,
        on_ray=ray,
        tokenizer=tokenizer,
        columns=Columns(text_column, quality_column),
        errors=errors.value,
        piece_tokens=piece_tokens,
        near_duplicates=near_duplicates or None,
        quality=None if quality is None else quality.value,
        tiers=tiers,
    )
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
    from crossover.trainers.data.corpus import open_one
    from crossover.trainers.tasks.make_task import TaskShape, make_task

    shape = TaskShape(questions, context_characters, ending_characters, endings)
    make_task(open_one(corpus), output, shape, split.value, seed)
    typer.echo(f"{questions} questions of {endings} endings: {output}")


@app.command("inspect", short_help="Show what a corpus holds.")
def data_inspect(
    corpus: Annotated[str, typer.Argument(metavar="DIR", help="Folder, name or URI of a prepared corpus.")],
    examples: Annotated[int, typer.Option(min=0, help="Documents to show of each split.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show counts, lengths, duplicates, hashes, budgets and examples of a corpus."""
    from crossover.platform.data.inspecting import inspect_corpus, print_inspection
    from crossover.trainers.data.corpus import open_one

    found = inspect_corpus(open_one(corpus), examples)
    if as_json:
        typer.echo(found.to_json())
    else:
        print_inspection(found)


@app.command("verify", short_help="Check that a corpus is whole and what it says.")
def data_verify(
    corpus: Annotated[str, typer.Argument(metavar="DIR", help="Folder, name or URI of a prepared corpus.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Read all of a corpus again: files, counts, split and order of every document by the hash of its text."""
    import json

    from crossover.trainers.data.corpus import open_one
    from crossover.trainers.data.verifying import verify_corpus

    verified = verify_corpus(open_one(corpus))
    typer.echo(json.dumps(verified) if as_json else "\n".join(f"{name}: {text}" for name, text in verified.items()))
