"""Commands on trained models: evaluate, ensemble, sample, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from crossover.platform.commands.arguments import command_group

__all__ = ["app"]

app = command_group()

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A trial's folder, or that of a run of crossover train.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command(short_help="Multiple choice with a trained model.")
def evaluate(
    checkpoint: Checkpoint,
    tasks: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="JSONL of questions; several may be named.")
    ] = None,
    further: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further tasks files.")] = None,
    masks: Annotated[int, typer.Option(min=2, help="Masks an option of several tokens, for bounds.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the masks.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a trained model on multiple-choice questions in HellaSwag's fields, by likelihood."""
    from crossover.platform.models.evaluating import evaluate_checkpoint

    evaluate_checkpoint(checkpoint, [*(tasks or ()), *(further or ())], masks, seed, as_json=as_json)


@app.command(short_help="Several trials scored as one.")
def ensemble(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Folders of two trials or more, of the same data.")
    ],
    split: Annotated[Literal["validation", "test"], typer.Option(help="Held-out text to score.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Score the averaged probabilities, and the averaged logits, of trials that differ in their seeds."""
    from crossover.platform.models.ensembles import score_ensemble

    score_ensemble(checkpoints, split, as_json=as_json)
