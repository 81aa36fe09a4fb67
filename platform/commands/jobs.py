"""Commands for jobs of a Ray cluster: `crossover submit` and `crossover jobs ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import Overrides, command_group

__all__ = ["app", "jobs"]

app = command_group()
jobs = command_group("Look after studies that were submitted to a Ray cluster.")

_Address = Annotated[
    str | None,
    typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, http://HOST:8265."),
]
_Job = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or a study's name: its newest job.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@app.command(short_help="Submit a study to a Ray cluster.")
def submit(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a built-in study.")],
    address: _Address = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Folder of studies that all machines share, or s3://bucket/folder; else the study's."),
    ] = None,
    overrides: Overrides = None,
    overlay: Annotated[str | None, typer.Option(help="Lay another document over the study: gpu, or a file.")] = None,
    wheel: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send this wheel of Crossover along; an editable install sends itself."),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Send no code: run what the cluster has installed.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")] = True,
) -> None:
    """Submit a study as a job; submitted again after it has ended, it goes on. The token is RAY_AUTH_TOKEN's."""
    from crossover.platform.study import read_study
    from crossover.trainers.errors import ConfigError

    if installed and wheel is not None:
        raise ConfigError("--wheel and --installed: give one of them, to send code along or to send none")
    changes = [*(overrides or ()), *([] if storage is None else [f"storage={storage}"])]
    checked = read_study(study, changes, overlay)
    from crossover.platform.cluster.jobs.reporting import follow  # loads Ray: seconds
    from crossover.platform.cluster.jobs.server import connect
    from crossover.platform.cluster.jobs.submitting import Submission, submit_study

    server = connect(address)
    if server.token_from is None:
        typer.echo(f"warning: whoever reaches {server.address} runs code there: it asks for no token", err=True)
    job = submit_study(server, Submission(checked, wheel, installed))
    typer.echo(f"study {job.study} is submitted as job {job.job_id}; it is kept in {job.folder}", err=True)
    raise typer.Exit(follow(server, job) if wait else 0)


@jobs.command("list", short_help="List the jobs of studies.")
def list_jobs(address: _Address = None, as_json: _AsJson = False) -> None:
    """List the jobs of studies that this cluster knows."""
    from crossover.platform.cluster.jobs.reporting import print_jobs
    from crossover.platform.cluster.jobs.server import connect

    print_jobs(connect(address), as_json=as_json)


@jobs.command(short_help="Print where a job stands.")
def status(job: _Job, address: _Address = None, as_json: _AsJson = False) -> None:
    """Print where a job stands, and what that means."""
    from crossover.platform.cluster.jobs.reporting import print_job
    from crossover.platform.cluster.jobs.server import connect

    print_job(connect(address), job, as_json=as_json)


@jobs.command(short_help="Print what a job printed.")
def logs(
    job: _Job,
    address: _Address = None,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on to its end; exit as its driver did.")
    ] = False,
) -> None:
    """Print what a job has printed."""
    from crossover.platform.cluster.jobs.reporting import print_log
    from crossover.platform.cluster.jobs.server import connect

    raise typer.Exit(print_log(connect(address), job, following=following))


@jobs.command(short_help="End a job; its study can go on.")
def stop(
    job: _Job,
    address: _Address = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
) -> None:
    """Ask a job to end: its trials leave with a checkpoint, and the study goes on when it is submitted again."""
    from crossover.platform.cluster.jobs.reporting import stop_job
    from crossover.platform.cluster.jobs.server import connect

    stop_job(connect(address), job, wait=wait)
