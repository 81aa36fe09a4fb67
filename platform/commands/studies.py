"""Commands that run, follow and list studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import Overrides, StudyFolder, command_group, study_or_file
from crossover.trainers.errors import ConfigError

__all__ = ["app"]

app = command_group()


@app.command(short_help="Run a study, or resume it.")
def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a built-in study.")],
    storage: Annotated[
        str | None, typer.Option(help="Folder of studies, or s3://bucket/folder; the study gets a folder in it.")
    ] = None,
    overrides: Overrides = None,
    overlay: Annotated[
        str | None, typer.Option(help="Lay another document over the study: gpu, or a file. See `crossover studies`.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run and its cost; start nothing.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write the report when it has ended.")] = False,
) -> None:
    """Run a study, or resume it: the same command again goes on where it stopped."""
    from crossover.platform.study import read_study

    checked = read_study(study, overrides or (), overlay)
    from crossover.platform.execution.launch import run_study  # loads torch and Ray: seconds

    code = run_study(checked, storage=storage, dry_run=dry_run)
    if report and code == 0 and not dry_run:
        from crossover.platform.analysis import load_study, write_report
        from crossover.platform.analysis.figures import Findings
        from crossover.trainers.places import joined

        findings = Findings.of(load_study(joined(storage or checked.storage, checked.name)))
        typer.echo(f"report: {findings.tables.place.shown(write_report(findings))}")
    raise typer.Exit(code)


@app.command(short_help="Run a study in virtual time, over curves.")
def simulate(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a built-in study.")],
    curves: Annotated[
        str,
        typer.Option(
            metavar="FILE|LAW",
            help="Losses: a law by name, a table of evaluations (Parquet or CSV), or a study's folder.",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many, from search.seed on.")] = 20,
    against: Annotated[
        list[str] | None, typer.Option(metavar="SCHEDULER", help="Another scheduler on the same seeds; repeatable.")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 8,
    flops_per_second: Annotated[float, typer.Option(min=1.0, help="Of each slot; sets virtual time.")] = 1e14,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every seed as JSON instead.")] = False,
) -> None:
    """Run a study in virtual time: its own searcher, scheduler, budget and stop rule, over curves."""
    from crossover.platform.search.simulation.printing import print_simulation
    from crossover.platform.study import read_study

    print_simulation(
        read_study(study, overrides or ()),
        str(study_or_file(curves)),
        seeds,
        against or (),
        slots,
        flops_per_second,
        as_json=as_json,
    )


@app.command(short_help="Train one configuration without a study.")
def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of one training run.", show_default=False)
    ] = None,
    recommended: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Train what a study recommends (crossover plan STUDY) instead.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; by default runs/<name of the file>, or <study>-recommended."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train one configuration without a study; the same command again resumes it."""
    if recommended is not None and config is None:
        from crossover.platform.analysis.recommendation.launching import train_recommended

        raise typer.Exit(train_recommended(recommended, output, overrides or ()))
    if config is None or recommended is not None:
        raise ConfigError("give either CONFIG, the YAML file of one training run, or --recommended STUDY")
    from crossover.trainers.alone import run_config

    raise typer.Exit(run_config(config, output, overrides or ()))


@app.command(short_help="Print where a study stands.")
def status(directory: StudyFolder) -> None:
    """Where a study stands, from its files alone: works while it runs elsewhere."""
    from crossover.platform.execution.status import print_status

    print_status(directory)


@app.command(short_help="Remove what a study needs no more.")
def clean(
    directory: StudyFolder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every folder and its bytes as JSON.")] = False,
) -> None:
    """Remove training states of ended trials, best weights of all but the best, Tune's folders; rows stay."""
    from crossover.platform.execution.clean import clean_study

    cleaned = clean_study(directory, dry_run=dry_run)
    typer.echo(cleaned.to_json() if as_json else str(cleaned))


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
    """List the built-in studies, and the overlays that they have."""
    from crossover.platform.study import builtin_overlays, builtin_studies, read_study

    width = max(map(len, builtin_studies()))
    for name in builtin_studies():
        overlays = "".join(f" [--overlay {overlay}]" for overlay in builtin_overlays(name))
        typer.echo(f"{name:<{width}}  {read_study(name).description}{overlays}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study, for editors."""
    from crossover.platform.study import study_schema_text

    typer.echo(study_schema_text(), nl=False)
