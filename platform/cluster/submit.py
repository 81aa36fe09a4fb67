"""Hands a manifest to the cluster: checked, and so that the same command again resumes what has ended."""

from __future__ import annotations

from pathlib import Path

from crossover.platform.cluster.job_status import state_of
from crossover.platform.cluster.kubectl import kubectl, rayjob
from crossover.platform.cluster.lint import Document, lint, read_manifest
from crossover.platform.cluster.lint.schema import Crd
from crossover.platform.study.document import write_yaml
from crossover.trainers.errors import CrossoverError

__all__ = ["submit"]

_MAX_SHOWN = 10


def submit(file: Path, crds: list[Crd] | None = None) -> list[str]:
    """Applies every object of a manifest, on the server's side: a client's own annotation would be too large.

    A RayJob that runs is left alone; one that has ended is removed first, and its study goes on from the storage.

    Args:
        file: the manifest.
        crds: to check it with; None: the server does.

    Returns:
        What was done, in words.

    Raises:
        CrossoverError: the manifest is wrong, its job runs already, or kubectl fails.
    """
    documents = read_manifest(file)
    _check(documents, crds, file)
    done = [_make_room(document) for document in documents if document.kind == "RayJob"]
    text = "---\n".join(write_yaml(document.value) for document in documents)
    words = ("apply", "--server-side", "--field-manager=crossover", "--validate=strict", "--filename", "-")
    return [line for line in (*done, *kubectl(*words, given=text).splitlines()) if line]


def _check(documents: list[Document], crds: list[Crd] | None, file: Path) -> None:
    linted = lint(documents, crds)
    placeholders = [one for one in linted.findings if one.level == "warning" and one.rule == "image"]
    if wrong := [*linted.errors, *placeholders]:
        listed = [f"  {finding}" for finding in wrong[:_MAX_SHOWN]]
        more = [f"  and {len(wrong) - _MAX_SHOWN} more"] if len(wrong) > _MAX_SHOWN else []
        raise CrossoverError("\n".join([f"{file} is not submitted:", *listed, *more]))


def _make_room(document: Document) -> str:
    metadata = document.value["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    job = rayjob(name, namespace)
    if job is None:
        return ""
    state = state_of(job)
    if not state.has_ended:
        raise CrossoverError(
            f"RayJob {namespace}/{name} is there and has not ended ({state.deployment or 'new'}): wait for it, or end "
            f"it with `kubectl delete rayjob {name} --namespace {namespace}`; the study then goes on when it is "
            "submitted again"
        )
    kubectl("delete", "rayjobs.ray.io", name, "--namespace", namespace, "--wait=true")
    return f"removed the earlier RayJob {namespace}/{name}, which had ended ({state.deployment}); the study goes on"
