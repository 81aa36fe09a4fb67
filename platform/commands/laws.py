"""Commands that go from tables to laws, and from laws to decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import command_group, study_or_file

__all__ = ["app"]

app = command_group()

LossSource = Annotated[
    Path,
    typer.Argument(
        metavar="TABLE",
        parser=study_or_file,
        help="CSV or Parquet with columns N, D, U, loss, family, run; or a study.",
    ),
]
Columns = Annotated[
    str | None, typer.Option(metavar="N=NAME,...", help="The table's own names of N, D, U, loss, family, run, epochs.")
]
Where = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only rows with this value; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Draws = Annotated[int, typer.Option(help="Bootstrap draws.")]
Seed = Annotated[int, typer.Option(help="Seed of draws and folds.")]


@app.command(short_help="Fit a scaling law to a table or a study.")
def fit(
    table: LossSource,
    law: Annotated[
        str, typer.Option(help="chinchilla, data-constrained, rising, asymptote; auto: by cross-validation.")
    ] = "auto",
    objective: Annotated[str, typer.Option(help="huber, lad, squared or asymmetric, of ln loss.")] = "huber",
    share: Annotated[
        str, typer.Option(help="What families have in common: none, E, exponents, E+exponents, auto.")
    ] = "auto",
    base: Annotated[
        str | None, typer.Option(metavar="LAW", help="Take E, A, B, alpha, beta from a published law or a law file.")
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Give one parameter; may be repeated.")
    ] = None,
    predict: Annotated[
        list[str] | None, typer.Option(metavar="N=...,D=...", help="Predict a run, as N=1e9,D=1e11,U=5e9,family=ar.")
    ] = None,
    columns: Columns = None,
    where: Where = None,
    draws: Draws = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option(help="Law file to write, for crossover plan.")] = None,
) -> None:
    """Fit a scaling law, with intervals, and say what the data do not identify."""
    from crossover.platform.analysis.scaling_laws.requests import FitRequest, fitted

    request = FitRequest(
        law=law, objective=objective, share=share, base=base, fix=fix or (), predict=predict or (), columns=columns,
        where=where or (), draws=draws, seed=seed,
    )  # fmt: skip
    found = fitted(table, request, output)
    if as_json:
        typer.echo(found.to_json())
        return
    from crossover.platform.analysis.scaling_laws.printing import print_fit

    print_fit(found)


@app.command(short_help="Where masked diffusion goes below autoregressive.")
def crossings(
    source: LossSource,
    law: Annotated[str, typer.Option(help="Law that is fitted, as of crossover fit.")] = "data-constrained",
    share: Annotated[str, typer.Option(help="What families have in common, as of crossover fit.")] = "auto",
    baseline: Annotated[str | None, typer.Option(help="Family to be crossed; by default ar or autoregressive.")] = None,
    challenger: Annotated[
        str | None, typer.Option(help="Family that crosses; by default mdm, dlm or masked_diffusion.")
    ] = None,
    columns: Columns = None,
    where: Where = None,
    draws: Draws = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find where masked diffusion goes below autoregressive: fitted and measured, in epochs, tokens and FLOPs."""
    from crossover.platform.analysis.crossing import (
        CrossingSettings,
        crossings_of_study,
        crossings_of_table,
        print_crossings,
    )
    from crossover.platform.analysis.scaling_laws.requests import table_of

    settings = CrossingSettings(
        law=law, share=share, num_draws=draws, seed=seed, baseline=baseline, challenger=challenger
    )
    is_study = source.is_dir() and not columns and not where
    found = (
        crossings_of_study(source, settings)
        if is_study
        else crossings_of_table(table_of(source, columns, where or ()), settings)
    )
    if as_json:
        typer.echo(found.to_json())
    else:
        print_crossings(found)


@app.command(short_help="What to train for so many unique tokens and FLOPs.")
def plan(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="A study, a table, law files, or published laws (crossover laws)."),
    ] = None,
    unique_tokens: Annotated[
        str | None, typer.Option(metavar="U", help="Unique tokens, as 100M; by default the study's.")
    ] = None,
    flops: Annotated[str | None, typer.Option(metavar="C", help="Training FLOPs, as 1e20.")] = None,
    hours: Annotated[float | None, typer.Option(help="Instead of FLOPs: hours on all devices.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices that train for so many hours.")] = 1,
    device_flops: Annotated[
        str | None, typer.Option(metavar="FLOP/S", help="What a device sustains in training, as 4e14.")
    ] = None,
    draws: Draws = 300,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Plan: the best objective, size and epochs, with predicted loss, runner-up, and what to run next."""
    from crossover.platform.analysis.recommendation import flops_of, make_plan, parse_amount, print_plan

    unique = None if unique_tokens is None else parse_amount(unique_tokens, "--unique-tokens")
    budget = flops_of(flops, hours, devices, device_flops)
    found = make_plan(
        [str(study_or_file(source)) for source in sources or ()], unique, budget, num_draws=draws, seed=seed
    )
    if as_json:
        typer.echo(found.to_json())
    else:
        print_plan(found)


@app.command("laws")
def list_laws() -> None:
    """List the published laws that ship, with their sources."""
    from crossover.platform.analysis.published_laws import is_threshold, published_names, read_law, read_threshold

    for name in published_names():
        law = read_threshold(name) if is_threshold(name) else read_law(name)
        typer.echo(f"{name:<28} {law.source}")
