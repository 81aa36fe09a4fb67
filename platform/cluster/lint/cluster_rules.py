"""What KubeRay 1.7's operator refuses of a cluster's spec, alone or in a RayJob (validation.go)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from crossover.platform.cluster.lint.finding import Document, Finding, items, mapping, text
from crossover.platform.cluster.lint.pods import Pod, cluster_of, environment, pods_of

__all__ = ["check_cluster_rules"]

_PARAMETERS = ("num-cpus", "num-gpus", "memory", "resources")
_TOKEN_VERSION, _PRIORITY_VERSION = (2, 52), (2, 56)

_Found = Iterator[tuple[str, str]]


def check_cluster_rules(document: Document) -> Iterator[Finding]:
    """Every rule that a cluster's spec breaks."""
    path, cluster = cluster_of(document)
    if not cluster:
        return
    pods = list(pods_of(document))
    found = (*_groups(cluster), *_autoscaling(cluster), *_restarts(cluster), *_auth(document, cluster))
    for where, message in found:
        yield document.error("operator", f"{path}.{where}", message)
    for where, message in _variables(path, cluster, pods):
        yield document.error("operator", where, message)


def _version(cluster: dict[str, Any]) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text(cluster.get("rayVersion")))
    return (int(match[1]), int(match[2])) if match else ()


def _all_groups(cluster: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "headGroupSpec", mapping(cluster.get("headGroupSpec"))
    for number, group in enumerate(items(cluster.get("workerGroupSpecs"))):
        yield f"workerGroupSpecs[{number}]", mapping(group)


def _groups(cluster: dict[str, Any]) -> _Found:
    names: set[str] = set()
    for path, group in _all_groups(cluster):
        parameters = mapping(group.get("rayStartParams"))
        both = [name for name in _PARAMETERS if name in parameters]
        if both and group.get("resources"):
            yield path, f"resources and rayStartParams {', '.join(both)} say the same thing twice: keep one"
        if "labels" in parameters:
            yield f"{path}.rayStartParams.labels", "not allowed: set the group's labels instead"
        least, most = group.get("minReplicas", 0), group.get("maxReplicas")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield f"{path}.minReplicas", f"{least} is more than maxReplicas = {most}"
        if "groupName" in group:
            if text(group["groupName"]) in names:
                yield f"{path}.groupName", f"{group['groupName']!r} stands twice"
            names.add(text(group["groupName"]))


def _is_v2(cluster: dict[str, Any]) -> bool:
    """Version 2 of the autoscaler: named, or the default of Ray 2.47 and later."""
    if cluster.get("enableInTreeAutoscaling") is not True:
        return False
    given = mapping(cluster.get("autoscalerOptions")).get("version")
    return given == "v2" or (given is None and _version(cluster) >= (2, 47))


def _autoscaling(cluster: dict[str, Any]) -> _Found:
    for path, group in _all_groups(cluster):
        if "idleTimeoutSeconds" in group and not _is_v2(cluster):
            yield f"{path}.idleTimeoutSeconds", "needs enableInTreeAutoscaling with autoscalerOptions.version: v2"
        if group.get("priority") and not (_is_v2(cluster) and _version(cluster) >= _PRIORITY_VERSION):
            yield f"{path}.priority", "needs autoscaler v2 and rayVersion 2.56 or newer"


def _restarts(cluster: dict[str, Any]) -> _Found:
    if not _is_v2(cluster):
        return
    for path, group in _all_groups(cluster):
        policy = mapping(mapping(group.get("template")).get("spec")).get("restartPolicy")
        if policy not in (None, "", "Never"):
            yield f"{path}.template.spec.restartPolicy", f"{policy!r}, but autoscaler v2 needs Never"


def _auth(document: Document, cluster: dict[str, Any]) -> _Found:
    options = mapping(cluster.get("authOptions"))
    if options.get("mode") == "token" and _version(cluster) < _TOKEN_VERSION:
        yield "rayVersion", f"{cluster.get('rayVersion')!r}: token authentication needs it set, to 2.52 or newer"
    if options.get("enableK8sTokenAuth") is True and document.kind == "RayJob":
        yield "authOptions.enableK8sTokenAuth", "not supported for a RayJob: use mode: token with a secretName"
    if options.get("mode") != "token":
        yield "authOptions.mode", "set it to token: whoever reaches the dashboard's port can run code"


def _variables(spec: str, cluster: dict[str, Any], pods: list[Pod]) -> _Found:
    fault_tolerant = bool(cluster.get("gcsFaultToleranceOptions"))
    head = mapping(mapping(cluster.get("headGroupSpec")).get("rayStartParams"))
    if fault_tolerant and "redis-password" in head:
        yield (
            f"{spec}.headGroupSpec.rayStartParams.redis-password",
            "set gcsFaultToleranceOptions.redisPassword instead",
        )
    for pod in pods:
        for path, container in pod.containers():
            names = environment(container)
            if "RAY_REDIS_ADDRESS" in names and not fault_tolerant and pod.role == "head":
                yield f"{path}.env", "RAY_REDIS_ADDRESS: set gcsFaultToleranceOptions.redisAddress instead"
            if "REDIS_PASSWORD" in names and fault_tolerant and pod.role == "head":
                yield f"{path}.env", "REDIS_PASSWORD: set gcsFaultToleranceOptions.redisPassword instead"
            if "RAY_enable_autoscaler_v2" in names and cluster.get("enableInTreeAutoscaling") is not True:
                yield f"{path}.env", "RAY_enable_autoscaler_v2 needs enableInTreeAutoscaling"
