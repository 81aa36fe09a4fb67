"""Commands on trained models: evaluate, ensemble, sample, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from crossover.platform.commands.arguments import command_group, trial_folder

__all__ = ["app"]

app = command_group()

Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        parser=trial_folder,
        help="A trial's folder (also in an object store), or that of a run of crossover train.",
    ),
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
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...", parser=trial_folder, help="Folders of two trials or more, of the same data."
        ),
    ],
    split: Annotated[Literal["validation", "test"], typer.Option(help="Held-out text to score.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Score the averaged probabilities, and the averaged logits, of trials that differ in their seeds."""
    from crossover.platform.models.ensembles import score_ensemble

    score_ensemble(checkpoints, split, as_json=as_json)


class Order(StrEnum):
    """Which masks are uncovered first."""

    confidence = "confidence"
    random = "random"


@app.command(short_help="Generate text with trained models.")
def sample(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...", parser=trial_folder, help="Folders of trials or runs; several are compared."
        ),
    ],
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Texts of each model.")] = 1,
    tokens: Annotated[int, typer.Option(help="New tokens of each text.")] = 64,
    temperature: Annotated[float, typer.Option(help="Of the softmax; 0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Choose among so many likeliest tokens.")] = None,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest of this probability.")] = 1.0,
    order: Annotated[Order, typer.Option(help="MDM: tokens that come first.")] = Order.confidence,
    steps: Annotated[int | None, typer.Option(help="MDM: forward passes; by default one a token.")] = None,
    block: Annotated[int | None, typer.Option(help="MDM: tokens of a block, finished left to right.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choices.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt with trained models; tokens a second and FLOPs a token stand side by side."""
    from crossover.platform.models.sampling import sample_checkpoints
    from crossover.trainers.generation.base import GenerationSettings

    settings = GenerationSettings(tokens, temperature, top_k, top_p, order.value, steps, block, seed)
    sample_checkpoints(checkpoints, prompt, samples, settings, as_json=as_json)


@app.command(short_help="Write a trained model in another format.")
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    format: Annotated[str, typer.Option(help="huggingface: a folder that transformers loads.")] = "huggingface",
) -> None:
    """Export the best weights of a trained model: the logits are equal, and README.md says how to use it."""
    from crossover.platform.models.export_format import export_checkpoint

    exported = export_checkpoint(checkpoint, output, format)
    typer.echo(f"{exported.objective.name} {exported.name}: {output}")


@app.command(
    "lm-eval",
    short_help="lm-evaluation-harness on a trained model.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def lm_eval(arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENTS...")] = None) -> None:
    """Run lm-evaluation-harness's own command line, to which --model crossover is known.

    As: crossover lm-eval run --model crossover --model_args checkpoint=DIR --tasks NAME. Needs the extra `eval`.
    """
    from crossover.platform.models.harness import run_harness

    run_harness(arguments or ())
