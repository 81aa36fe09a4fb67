"""What KubeRay 1.7's operator refuses of a RayJob after the API server has taken it (validation.go).

The server says "created", and the job stands at ValidationFailed: so it is said here, before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import yaml

from crossover.platform.cluster.lint.finding import Document, Finding, items, mapping, text

__all__ = ["check_job_rules", "is_positive"]

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MAX_NAME = {"RayJob": 47, "RayCluster": 53}
_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_POLICIES = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")  # in the order of their times


def is_positive(value: object) -> bool:
    """Whether a value is a number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def check_job_rules(document: Document) -> Iterator[Finding]:
    """Every rule that a RayJob or RayCluster breaks outside of its cluster's spec."""
    if document.kind not in _MAX_NAME:
        return
    yield from _name(document)
    if document.kind == "RayJob":
        spec = mapping(document.value.get("spec"))
        found = (*_modes(spec), *_ends(spec), *_selector(spec), *_deletion(spec), *_times(spec), *_runtime_env(spec))
        for path, message in found:
            yield document.error("operator", f"spec.{path}", message)


def _name(document: Document) -> Iterator[Finding]:
    name, longest = text(mapping(document.value.get("metadata")).get("name")), _MAX_NAME[document.kind]
    if name and (len(name) > longest or not _DNS_1035.fullmatch(name)):
        rule = f"a {document.kind}'s name has at most {longest} characters, of a-z, 0-9 and '-', the first a letter"
        yield document.error("operator", "metadata.name", f"{name!r}: {rule}")


_Found = Iterator[tuple[str, str]]


def _modes(spec: dict[str, Any]) -> _Found:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in _MODES:
        yield "submissionMode", f"{mode!r}: it is one of {', '.join(_MODES)}"
    if mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig"):
            if name in spec:
                yield name, "SidecarMode takes none: remove it"
    if mode == "InteractiveMode" and is_positive(spec.get("backoffLimit")):
        yield "backoffLimit", "InteractiveMode takes none: remove it"
    if "entrypoint" not in spec and mode != "InteractiveMode":
        yield "entrypoint", "required and not set"
    if "rayClusterSpec" not in spec and not spec.get("clusterSelector"):
        yield "rayClusterSpec", "required and not set: give it, or clusterSelector"


def _ends(spec: dict[str, Any]) -> _Found:
    shuts_down = spec.get("shutdownAfterJobFinishes") is True
    if spec.get("suspend") is True and not shuts_down:
        yield "suspend", "a job that can be suspended needs shutdownAfterJobFinishes: true"
    if is_positive(spec.get("ttlSecondsAfterFinished")) and not shuts_down:
        yield "ttlSecondsAfterFinished", "needs shutdownAfterJobFinishes: true"
    if shuts_down and mapping(spec.get("deletionStrategy")).get("deletionRules"):
        yield "shutdownAfterJobFinishes", "excludes deletionStrategy.deletionRules: keep one"


def _selector(spec: dict[str, Any]) -> _Found:
    if not spec.get("clusterSelector"):
        return
    if is_positive(spec.get("backoffLimit")):
        yield "backoffLimit", "a job on a cluster that is there (clusterSelector) gets no new one: remove it"
    if spec.get("submissionMode") == "SidecarMode":
        yield "submissionMode", "clusterSelector excludes SidecarMode"
    if spec.get("suspend") is True:
        yield "suspend", "clusterSelector excludes suspend"


def _deletion(spec: dict[str, Any]) -> _Found:
    strategy = mapping(spec.get("deletionStrategy"))
    autoscales = mapping(spec.get("rayClusterSpec")).get("enableInTreeAutoscaling") is True
    rules = [mapping(rule) for rule in items(strategy.get("deletionRules"))]
    named = [*rules, mapping(strategy.get("onSuccess")), mapping(strategy.get("onFailure"))]
    if autoscales and any(rule.get("policy") == "DeleteWorkers" for rule in named):
        yield "deletionStrategy", "DeleteWorkers excludes enableInTreeAutoscaling, which would bring them back"
    times: dict[tuple[str, str], dict[str, Any]] = {}
    for number, rule in enumerate(rules):
        condition = mapping(rule.get("condition"))
        when = (text(condition.get("jobStatus")), text(condition.get("jobDeploymentStatus")))
        policies, policy = times.setdefault(when, {}), text(rule.get("policy"))
        if policy in policies:
            place = f"deletionStrategy.deletionRules[{number}]"
            yield place, f"{policy} stands twice for the same condition: keep one"
        policies[policy] = condition.get("ttlSeconds", 0)
    for policies in times.values():
        seconds = [(policies[policy], policy) for policy in _POLICIES if isinstance(policies.get(policy), int)]
        for (before, earlier), (after, later) in pairwise(seconds):
            if before > after:
                order = f"{earlier} after {before} s, but {later} after {after} s: the larger thing goes last"
                yield "deletionStrategy.deletionRules", order


def _times(spec: dict[str, Any]) -> _Found:
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if name in spec and not is_positive(spec[name]):
            yield name, f"{spec[name]!r}, but must be above 0"
    for name in ("backoffLimit", "ttlSecondsAfterFinished"):
        if isinstance(spec.get(name), int) and spec[name] < 0:
            yield name, f"{spec[name]}, but must be at least 0"


def _runtime_env(spec: dict[str, Any]) -> _Found:
    if not (given := text(spec.get("runtimeEnvYAML"))):
        return
    try:
        environment = yaml.safe_load(given)
    except (yaml.YAMLError, RecursionError) as error:
        yield "runtimeEnvYAML", f"no valid YAML: {' '.join(str(error).split())[:160]}"
        return
    if not isinstance(environment, dict):
        yield "runtimeEnvYAML", f"{str(environment)[:60]!r} is no mapping"
        return
    yield from (("runtimeEnvYAML", message) for message in _installs(environment))


def _installs(environment: dict[Any, Any]) -> Iterator[str]:
    for name in ("pip", "uv", "conda"):
        if name in environment:
            yield f"{name} installs packages on every machine at run time: build them into the image"
    for name in ("working_dir", "py_modules"):
        given = environment.get(name)
        if any("://" in str(place) for place in (given if isinstance(given, list) else [given])):
            yield f"{name} = {str(given)[:60]} fetches code at run time: build it into the image"
