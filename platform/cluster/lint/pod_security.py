"""Kubernetes' Pod Security Standard `restricted`, on every pod of a manifest.

The namespace enforces it, and the API server never sees the pods of a RayJob before the operator makes them: what is
forbidden would show as a cluster that never starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crossover.platform.cluster.lint.finding import Document, Finding, items, mapping, text
from crossover.platform.cluster.lint.pods import Pod, cluster_of, pods_of

__all__ = ["check_pod_security"]

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_HOOKS = ("livenessProbe", "readinessProbe", "startupProbe")

_Found = Iterator[tuple[str, str]]


def check_pod_security(document: Document) -> Iterator[Finding]:
    """Everything that `restricted` forbids."""
    for pod in pods_of(document):
        for path, message in (*_of_pod(pod), *_of_containers(pod)):
            yield document.error("pod-security", path.lstrip("."), message)
    for path, message in _of_operator(document):
        yield document.error("pod-security", path, message)


def _of_operator(document: Document) -> _Found:
    """Containers that the operator makes by itself."""
    path, cluster = cluster_of(document)
    if cluster.get("enableInTreeAutoscaling") is True:
        context = mapping(mapping(cluster.get("autoscalerOptions")).get("securityContext"))
        yield from _context(f"{path}.autoscalerOptions", context, mapping(_head(cluster).get("securityContext")))
    spec = mapping(document.value.get("spec"))
    mode = spec.get("submissionMode", "K8sJobMode")
    if document.kind == "RayJob" and mode == "K8sJobMode" and "submitterPodTemplate" not in spec:
        yield "spec.submitterPodTemplate", "the operator's own submitter has no securityContext: give a template"
    if document.kind == "RayJob" and mode == "SidecarMode":
        yield "spec.submissionMode", "SidecarMode's submitter has no securityContext, and takes none: use HTTPMode"


def _head(cluster: dict[str, Any]) -> dict[str, Any]:
    return mapping(mapping(mapping(cluster.get("headGroupSpec")).get("template")).get("spec"))


def _of_pod(pod: Pod) -> _Found:
    path = f"{pod.path}.spec"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield f"{path}.{name}", "not allowed: remove it"
    context = mapping(pod.spec.get("securityContext"))
    yield from _options(f"{path}.securityContext", context)
    for number, sysctl in enumerate(items(context.get("sysctls"))):
        if text(mapping(sysctl).get("name")) not in _SYSCTLS:
            yield f"{path}.securityContext.sysctls[{number}]", f"{mapping(sysctl).get('name')!r} is not allowed"
    for number, volume in enumerate(items(pod.spec.get("volumes"))):
        for kind in mapping(volume).keys() - {"name"} - _VOLUMES:
            yield f"{path}.volumes[{number}].{kind}", "this kind of volume is not allowed: use a claim or an emptyDir"


def _of_containers(pod: Pod) -> _Found:
    above = mapping(pod.spec.get("securityContext"))
    for path, container in pod.containers():
        yield from _context(path, mapping(container.get("securityContext")), above)
        for number, port in enumerate(items(container.get("ports"))):
            if mapping(port).get("hostPort"):
                yield f"{path}.ports[{number}].hostPort", "not allowed: remove it"
        for where, action in _actions(container):
            for kind in ("httpGet", "tcpSocket"):
                if mapping(action.get(kind)).get("host"):
                    yield f"{path}.{where}.{kind}.host", "not allowed: remove it, the pod itself is asked"


def _actions(container: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((name, mapping(container.get(name))) for name in _HOOKS)
    lifecycle = mapping(container.get("lifecycle"))
    yield from ((f"lifecycle.{name}", mapping(lifecycle.get(name))) for name in ("postStart", "preStop"))


def _context(path: str, context: dict[str, Any], above: dict[str, Any]) -> _Found:
    """A container's context; what it does not say, the pod's says.

    Args:
        path: of the container.
        context: of the container.
        above: of the pod.
    """
    where = f"{path}.securityContext"
    if context.get("privileged"):
        yield f"{where}.privileged", "not allowed: remove it"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{where}.allowPrivilegeEscalation", "must be false"
    capabilities = mapping(context.get("capabilities"))
    if "ALL" not in items(capabilities.get("drop")):
        yield f"{where}.capabilities.drop", "must hold ALL"
    for name in items(capabilities.get("add")):
        if name != "NET_BIND_SERVICE":
            yield f"{where}.capabilities.add", f"{name!r} is not allowed"
    if context.get("runAsNonRoot", above.get("runAsNonRoot")) is not True:
        yield f"{where}.runAsNonRoot", "must be true, here or of the pod"
    profile = mapping(context.get("seccompProfile")) or mapping(above.get("seccompProfile"))
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{where}.seccompProfile.type", "must be RuntimeDefault or Localhost, here or of the pod"
    if context.get("procMount", "Default") != "Default":
        yield f"{where}.procMount", "must be Default"
    yield from _options(where, context)


def _options(where: str, context: dict[str, Any]) -> _Found:
    """What is forbidden of a pod and of a container alike."""
    if context.get("runAsUser") == 0:
        yield f"{where}.runAsUser", "0 is root: give another"
    selinux = mapping(context.get("seLinuxOptions"))
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}.seLinuxOptions", "only the types of containers are allowed, and neither user nor role"
    if mapping(context.get("appArmorProfile")).get("type", "RuntimeDefault") == "Unconfined":
        yield f"{where}.appArmorProfile", "Unconfined is not allowed"
    if mapping(context.get("seccompProfile")).get("type") == "Unconfined":
        yield f"{where}.seccompProfile.type", "Unconfined is not allowed"
    if mapping(context.get("windowsOptions")).get("hostProcess"):
        yield f"{where}.windowsOptions.hostProcess", "not allowed"
