"""Every pod that a document makes: those of a RayJob's head, workers and submitter, and those of core kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from crossover.platform.cluster.lint.finding import Document, items, mapping, text

__all__ = ["Pod", "cluster_of", "environment", "pods_of"]

_IN_TEMPLATE = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod template.

    Args:
        role: what it is for.
        path: of the template in its document.
        template: metadata and spec.
    """

    role: Literal["head", "worker", "submitter", "other"]
    path: str
    template: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """Of the pod."""
        return mapping(self.template.get("spec"))

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every container with its path, those of the start included."""
        for group in ("initContainers", "containers", "ephemeralContainers"):
            for number, container in enumerate(items(self.spec.get(group))):
                yield f"{self.path}.spec.{group}[{number}]", mapping(container)


def cluster_of(document: Document) -> tuple[str, dict[str, Any]]:
    """Path and value of the RayCluster spec in a document; an empty value where there is none."""
    spec = mapping(document.value.get("spec"))
    if document.kind == "RayCluster":
        return "spec", spec
    name = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(document.kind)
    return (f"spec.{name}", mapping(spec.get(name))) if name else ("spec", {})


def pods_of(document: Document) -> Iterator[Pod]:
    """Every pod of a document."""
    path, cluster = cluster_of(document)
    head = mapping(cluster.get("headGroupSpec"))
    if head:
        yield Pod("head", f"{path}.headGroupSpec.template", mapping(head.get("template")))
    for number, group in enumerate(items(cluster.get("workerGroupSpecs"))):
        template = mapping(mapping(group).get("template"))
        yield Pod("worker", f"{path}.workerGroupSpecs[{number}].template", template)
    spec = mapping(document.value.get("spec"))
    if document.kind == "RayJob" and "submitterPodTemplate" in spec:
        yield Pod("submitter", "spec.submitterPodTemplate", mapping(spec["submitterPodTemplate"]))
    if document.kind == "Pod":
        yield Pod("other", "", {"metadata": document.value.get("metadata"), "spec": spec})
    if document.kind in _IN_TEMPLATE:
        yield Pod("other", "spec.template", mapping(spec.get("template")))
    if document.kind == "CronJob":
        job = mapping(mapping(spec.get("jobTemplate")).get("spec"))
        yield Pod("other", "spec.jobTemplate.spec.template", mapping(job.get("template")))


def environment(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variables of a container by name."""
    return {text(mapping(item).get("name")): mapping(item) for item in items(container.get("env"))}
