"""Kinds of Kubernetes itself against its own schemas, and the pods of Ray's kinds as pods.

The schemas are those of the package `kubernetes-validate`, 108 MB for every version since 1.25, so it is an extra:
`pip install crossover[k8s]`. Without it the pods are still checked by the schema of the CRD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import Any

import jsonschema
from referencing import Registry, Resource

from crossover.platform.cluster.lint.finding import Document, Finding, mapping
from crossover.platform.cluster.lint.pods import pods_of
from crossover.platform.cluster.lint.schema import path_text

__all__ = ["KUBERNETES_VERSION", "check_core_kinds", "core_schemas_are_there", "is_core"]

KUBERNETES_VERSION = "1.32"
"""Whose schemas are used: old enough for what clusters run, new enough for what is rendered."""

_NAME = re.compile(r"[a-z0-9-]+")
_GROUPS = ("apps", "autoscaling", "batch", "policy")


def core_schemas_are_there() -> bool:
    """Whether the schemas are installed here."""
    return find_spec("kubernetes_validate") is not None


def is_core(document: Document) -> bool:
    """Whether a document is of a kind of Kubernetes itself."""
    group, slash, _ = str(document.value.get("apiVersion", "")).partition("/")
    return (
        not slash or group in _GROUPS or (group.endswith(".k8s.io") and "kueue" not in group and "x-k8s" not in group)
    )


def check_core_kinds(document: Document) -> Iterator[Finding]:
    """What the schema of a core kind forbids; of Ray's kinds, what that of a pod forbids of their templates."""
    if is_core(document) and document.kind not in ("Kustomization", "Component"):
        yield from _problems(document, document.value, "")
    elif not is_core(document):
        for pod in pods_of(document):
            metadata = {"name": "pod", **mapping(pod.template.get("metadata"))}
            as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec}
            yield from _problems(document, as_pod, f"{pod.path}.")


def _problems(document: Document, value: dict[str, Any], path: str) -> Iterator[Finding]:
    validator = _validator(str(value.get("apiVersion", "")), str(value.get("kind", "")))
    if validator is None:
        kind = f"{value.get('apiVersion')} {value.get('kind')}"
        yield document.error("core", "apiVersion", f"Kubernetes {KUBERNETES_VERSION} has no {kind}")
        return
    for error in validator.iter_errors(value):
        yield document.error("core", path + path_text(error.absolute_path), error.message[:300])


@cache
def _validator(api_version: str, kind: str) -> jsonschema.protocols.Validator | None:
    """Of one kind; the package's own function reads the definitions, 1.5 MB, again for every object."""
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
    if not _NAME.fullmatch(name) or not (file := _folder() / f"{name}.json").is_file():
        return None
    schema = json.loads(file.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions())


def _folder() -> Traversable:
    return files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES_VERSION}.0-local-strict"


@cache
def _definitions() -> Registry[Any]:
    file = _folder() / "_definitions.json"
    return Resource.from_contents(json.loads(file.read_text(encoding="utf-8"))) @ Registry()
