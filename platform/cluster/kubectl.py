"""kubectl, as the user has it set up: its context and credentials are theirs, and nothing of them is read here."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from crossover.trainers.errors import CrossoverError

__all__ = ["KubectlError", "kubectl", "rayjob"]

_PATIENCE_SECONDS = 120
_SHOWN = 600


class KubectlError(CrossoverError):
    """kubectl is not there, or refused."""


def kubectl(*words: str, given: str | None = None) -> str:
    """What kubectl prints.

    Args:
        words: of the command.
        given: its standard input.

    Raises:
        KubectlError: it is not installed, does not answer, or fails; with its own words.
    """
    if (program := shutil.which("kubectl")) is None:
        raise KubectlError(
            "kubectl is not on the PATH: install it (https://kubernetes.io/docs/tasks/tools/) and give it a cluster, "
            "or hand the file of `crossover k8s render` to whoever has one"
        )
    command = [program, *words]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise KubectlError(
            f"`kubectl {' '.join(words)}` does not end within {_PATIENCE_SECONDS} s: does the cluster answer? Try "
            "`kubectl get namespaces`"
        ) from None
    if done.returncode:
        raise KubectlError(f"`kubectl {' '.join(words)}` fails: {_last(done.stderr or done.stdout)}")
    return done.stdout


def rayjob(name: str, namespace: str) -> dict[str, Any] | None:
    """A RayJob as the cluster has it; None: there is none of this name.

    Raises:
        KubectlError: as above.
    """
    found = kubectl("get", "rayjobs.ray.io", name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
    if not found.strip():
        return None
    job: dict[str, Any] = json.loads(found)
    return job


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines[-3:]))[-_SHOWN:] or "it says nothing"
