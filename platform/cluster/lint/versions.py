"""One version of Ray everywhere: in the manifest, here, in the image's lock and in its Dockerfile.

Head, workers and whoever submits must have the same Ray and Python, to the patch version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from crossover.platform.cluster.lint.finding import Document, Finding, text
from crossover.platform.cluster.lint.pods import cluster_of, pods_of

__all__ = ["check_versions", "image_versions"]

_IN_DOCKERFILE = re.compile(r"^ARG RAY_VERSION=(\S+)", re.MULTILINE)
_IN_LOCK = re.compile(r"^ray(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_IN_TAG = re.compile(r"/ray(?:-ml|-llm)?:(\d+\.\d+\.\d+)")


def image_versions(folder: Path) -> dict[str, str | None]:
    """Ray's version by where it is written, of a folder with Dockerfile and requirements.lock; None: it is not."""
    places = {"Dockerfile": _IN_DOCKERFILE, "requirements.lock": _IN_LOCK}
    found: dict[str, str | None] = {}
    for name, pattern in places.items():
        file = folder / name
        match = pattern.search(file.read_text(encoding="utf-8")) if file.is_file() else None
        found[str(file)] = match[1] if match else None
    return found


def check_versions(document: Document, image: Path | None) -> Iterator[Finding]:
    """Every place that names another version of Ray than the manifest does.

    Args:
        document: of the manifest.
        image: folder of Dockerfile and lock; None: there is none here.
    """
    path, cluster = cluster_of(document)
    if not cluster:
        return
    stated = text(cluster.get("rayVersion"))
    if not stated:
        yield document.error(
            "version", f"{path}.rayVersion", f"required and not set: {version('ray')} is installed here"
        )
        return
    others = {"the Ray installed here": version("ray"), **(image_versions(image) if image else {})}
    for pod in pods_of(document):
        for where, container in pod.containers():
            if (found := _IN_TAG.search(text(container.get("image")))) is not None:
                others[f"{where}.image"] = found[1]
    for place, other in others.items():
        if other != stated:
            says = f"{place} has {other}" if other else f"{place} names no version of Ray"
            yield document.error("version", f"{path}.rayVersion", f"{stated}, but {says}: make them equal")
