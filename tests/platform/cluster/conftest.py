"""What tests of the cluster share: KubeRay's CRDs, and manifests to spoil."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossover.platform.cluster.lint import Document, Finding, lint
from crossover.platform.cluster.lint.schema import Crd, read_crds
from crossover.platform.cluster.rayjob import Rendering, render

ROOT = Path(__file__).resolve().parents[3]
IMAGE = f"registry.example.com/team/crossover@sha256:{'ab' * 32}"
PROFILES = ("dev-cpu", "single-node-gpu", "multi-node-gpu", "spot-sweep")


@pytest.fixture(scope="session")
def crd_folder() -> Path:
    """KubeRay's CRDs, which are no part of this project."""
    shared = [ROOT.parent / "shared", Path(os.environ.get("CROSSOVER_SHARED", "/nowhere"))]
    found = next((place for folder in shared if (place := folder / "k8s" / "crds").is_dir()), None)
    if found is None:
        pytest.skip("needs KubeRay's CRDs in ../shared/k8s/crds, or CROSSOVER_SHARED to name that ../shared")
    return found


@pytest.fixture(scope="session")
def crds(crd_folder: Path) -> list[Crd]:
    return read_crds(crd_folder)


@pytest.fixture(scope="session")
def job_of() -> Callable[..., dict[str, Any]]:
    """Renders the quickstart: `job_of("dev-cpu", at_once=2)`; each call a copy."""
    made: dict[str, dict[str, Any]] = {}

    def of(profile: str = "dev-cpu", **asked: Any) -> dict[str, Any]:
        key = f"{profile} {sorted(asked.items())}"
        if key not in made:
            made[key] = render(Rendering("quickstart", profile, asked.pop("image", IMAGE), **asked)).manifest
        return copy.deepcopy(made[key])

    return of


@pytest.fixture(scope="session")
def found_in() -> Callable[[dict[str, Any]], list[Finding]]:
    """What lint finds in a manifest without CRDs, core schemas aside."""
    return lambda manifest: [one for one in lint([Document(manifest)]).findings if one.rule != "core"]
