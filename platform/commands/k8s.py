"""Commands for Kubernetes: `crossover k8s ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossover.platform.commands.arguments import Overrides, command_group

__all__ = ["app"]

app = command_group("Run studies on Kubernetes, by KubeRay.")

_Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the job.")]


@app.command("render", short_help="Print a study's RayJob.")
def k8s_render(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a built-in study.")],
    profile: Annotated[str, typer.Option(help="dev-cpu, single-node-gpu, multi-node-gpu or spot-sweep.")],
    image: Annotated[str | None, typer.Option(help="The image, NAME@sha256:DIGEST; else a placeholder.")] = None,
    overrides: Overrides = None,
    overlay: Annotated[str | None, typer.Option(help="Lay another document over the study: gpu, or a file.")] = None,
    namespace: _Namespace = "crossover",
    at_once: Annotated[int | None, typer.Option(min=1, help="Trials at once; else what the profile has.")] = None,
    queue: Annotated[str | None, typer.Option(help="Kueue's local queue that admits the job.")] = None,
    gpu_memory: Annotated[float, typer.Option(min=1, help="GB of one GPU, for resources.workers: auto.")] = 80,
) -> None:
    """Print a study's RayJob: YAML on the screen, warnings on standard error."""
    from crossover.platform.cluster.rayjob import Rendering, render

    given = tuple(overrides or ())
    rendered = render(Rendering(study, profile, image, given, overlay, namespace, at_once, queue, gpu_memory * 1e9))
    for warning in rendered.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(rendered.yaml(), nl=False)


@app.command("lint", short_help="Check a manifest.")
def k8s_lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest; - is standard input.")],
    crds: Annotated[Path | None, typer.Option(help="Folder of KubeRay's CRDs.")] = None,
    image_folder: Annotated[Path, typer.Option(help="Folder of Dockerfile and lock.")] = Path("k8s/image"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a manifest as API server and operator would, and for what they would not say. Exit 2: errors."""
    from crossover.platform.cluster.lint import lint, read_crds, read_manifest
    from crossover.platform.cluster.lint.printing import print_findings

    documents = read_manifest(file)
    known = read_crds(crds) if crds else None
    linted = lint(documents, known, image_folder if image_folder.is_dir() else None)
    print_findings(linted, str(file), len(documents), as_json=as_json)
    raise typer.Exit(2 if linted.errors else 0)


@app.command("submit", short_help="Give a manifest to the cluster.")
def k8s_submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest; - is standard input.")],
    crds: Annotated[Path | None, typer.Option(help="Folder of KubeRay's CRDs, to check it with.")] = None,
) -> None:
    """Check a manifest and apply it with kubectl; a job that has ended is made anew, and its study goes on."""
    from crossover.platform.cluster.lint import read_crds
    from crossover.platform.cluster.submit import submit

    for line in submit(file, read_crds(crds) if crds else None):
        typer.echo(line)


@app.command("status", short_help="Print where a RayJob stands.")
def k8s_status(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the RayJob.")],
    namespace: _Namespace = "crossover",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print where a RayJob stands, and what that means."""
    from crossover.platform.cluster.job_status import print_job_status

    print_job_status(name, namespace, as_json=as_json)
