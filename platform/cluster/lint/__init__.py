"""`lint`: everything about a manifest that the API server, the operator or our own rules would refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.cluster.lint.cluster_rules import check_cluster_rules
from crossover.platform.cluster.lint.contents import check_entrypoint, check_images, check_secrets
from crossover.platform.cluster.lint.core_kinds import check_core_kinds, core_schemas_are_there, is_core
from crossover.platform.cluster.lint.finding import Document, Finding
from crossover.platform.cluster.lint.job_rules import check_job_rules
from crossover.platform.cluster.lint.pod_security import check_pod_security
from crossover.platform.cluster.lint.reading import parse_manifest, read_manifest
from crossover.platform.cluster.lint.rules_of_crds import cel_is_there, check_rules
from crossover.platform.cluster.lint.schema import Crd, check_schema, read_crds
from crossover.platform.cluster.lint.versions import check_versions, image_versions

__all__ = [
    "Document",
    "Finding",
    "Linted",
    "image_versions",
    "lint",
    "parse_manifest",
    "read_crds",
    "read_manifest",
]

_HOW_TO_GET_CRDS = (
    "no --crds, so the schema and its CEL rules were not checked. KubeRay's CRDs: helm-chart/kuberay-operator/crds/ of "
    "github.com/ray-project/kuberay at v1.7.0, or from a cluster: kubectl get crd rayjobs.ray.io rayclusters.ray.io "
    "-o yaml"
)
_EXTRA = "are not installed here: pip install 'crossover[k8s]'"

_CHECKS: tuple[Callable[[Document], Iterator[Finding]], ...] = (
    check_job_rules,
    check_cluster_rules,
    check_pod_security,
    check_entrypoint,
    check_images,
    check_secrets,
)


@dataclass(frozen=True)
class Linted:
    """What was found.

    Args:
        findings: errors first.
        notices: what could not be checked here, and how it can be.
    """

    findings: tuple[Finding, ...]
    notices: tuple[str, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that are refused."""
        return [finding for finding in self.findings if finding.level == "error"]


def lint(documents: Sequence[Document], crds: Sequence[Crd] | None = None, image: Path | None = None) -> Linted:
    """Checks a manifest.

    Args:
        documents: of the manifest.
        crds: of Ray's kinds; None: their schema is not checked, and a notice says so.
        image: folder of the image's Dockerfile and lock; None: their versions are not compared.
    """
    found: list[Finding] = []
    for document in documents:
        found += [finding for check in _CHECKS for finding in check(document)]
        found += check_versions(document, image)
        found += _by_schema(document, crds)
    return Linted(tuple(sorted(dict.fromkeys(found))), tuple(_notices(documents, crds)))


def _by_schema(document: Document, crds: Sequence[Crd] | None) -> Iterator[Finding]:
    if core_schemas_are_there():
        yield from check_core_kinds(document)
    if is_core(document) or crds is None:
        return
    api_version = document.value.get("apiVersion")
    crd = next((one for one in crds if one.kind == document.kind and one.api_version == api_version), None)
    if crd is not None:
        yield from check_schema(document, crd)
        if cel_is_there():
            yield from check_rules(document, crd)
    elif str(api_version).startswith("ray.io/") or any(one.kind == document.kind for one in crds):
        known = ", ".join(sorted(f"{one.api_version} {one.kind}" for one in crds))
        yield document.error("schema", "apiVersion", f"{api_version} {document.kind} is none of --crds: {known}")


def _notices(documents: Sequence[Document], crds: Sequence[Crd] | None) -> Iterator[str]:
    if crds is None:
        yield _HOW_TO_GET_CRDS
    elif not cel_is_there():
        yield f"CEL rules were not checked: the packages for it {_EXTRA}"
    if not core_schemas_are_there():
        yield f"core kinds were not checked against Kubernetes' schemas, which {_EXTRA}"
    for document in documents:
        known = is_core(document) or str(document.value.get("apiVersion")).startswith("ray.io/")
        if not known and not any(one.kind == document.kind for one in crds or ()):
            yield f"{document.name} is of a kind whose schema is not here: only our own rules were checked"
