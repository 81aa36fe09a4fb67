"""Pods of the head, the workers and the submitter: everything that PodSecurity `restricted` asks, and nothing secret.

Ray writes to /tmp, so the root filesystem stays writable, and /tmp is a volume with a limit. /dev/shm is a volume of
its own: the operator's would be as large as the container's memory. What is written there counts against that memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossover.platform.cluster.profiles import SPOT_LABEL, Profile
from crossover.platform.cluster.sizing import Workers

__all__ = [
    "CACHE_FOLDER",
    "HEAD_ACCOUNT",
    "OBJECT_STORE_BYTES",
    "PART_OF",
    "SECURE_CONTAINER",
    "STORAGE_FOLDER",
    "STUDY_ANNOTATION",
    "STUDY_FILE",
    "WORKER_ACCOUNT",
    "head_pod",
    "submitter_pod",
    "with_object_store",
    "worker_pod",
]

STORAGE_FOLDER = "/mnt/storage"
CACHE_FOLDER = f"{STORAGE_FOLDER}/cache"
STUDY_FILE = "/mnt/study/study.yaml"
STUDY_ANNOTATION = "crossover/study"
PART_OF = {"app.kubernetes.io/part-of": "crossover"}
HEAD_ACCOUNT, WORKER_ACCOUNT = "crossover-head", "crossover-worker"
OBJECT_STORE_BYTES = 1_000_000_000  # little goes through it: rows, stop requests, Ray Train's messages

STORE_SECRET = "crossover-object-store"
"""Secret whose keys become variables of head and workers of studies in an object store; pods with a role need none."""

_CLAIM = "crossover-storage"
_LOCAL_CACHE = "/tmp/crossover"
_DRAIN_SECONDS = 25  # clouds give spot machines 30 s and more
_SPOT_GRACE_SECONDS, _GRACE_SECONDS = 30, 60
_RAY_CPUS = 1  # of raylet and agents, beside what trials are given
SECURE_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SECURE_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,  # user ray and group users of Ray's images
    "runAsGroup": 100,
    "fsGroup": 100,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_ENVIRONMENT = {
    "CROSSOVER_CACHE": CACHE_FOLDER,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def head_pod(profile: Profile, image: str, study_yaml: str, *, api_access: bool) -> dict[str, Any]:
    """The head: driver, GCS and dashboard, and no trial.

    Args:
        profile: of the cluster.
        image: by digest.
        study_yaml: the document; the pod carries it as an annotation and sees it as a file.
        api_access: whether the autoscaler runs in it, which asks the API server for pods.
    """
    container = _container(
        "ray-head",
        image,
        {"cpu": str(profile.head_cpus), "memory": f"{profile.head_gib}Gi", "ephemeral-storage": "20Gi"},
        mounts={"study": "/mnt/study"},
        environment={"RAY_DASHBOARD_MAX_EVENTS_TO_CACHE": "1000"},
    )
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", STUDY_ANNOTATION: study_yaml}
    field = {"path": "study.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{STUDY_ANNOTATION}']"}}
    return {
        "metadata": {"annotations": annotations, "labels": _labels("head")},
        "spec": {
            **_pod(HEAD_ACCOUNT, token=api_access),
            "containers": [container],
            "volumes": [*_volumes("2Gi", "15Gi"), {"name": "study", "downwardAPI": {"items": [field]}}],
        },
    }


def worker_pod(profile: Profile, workers: Workers, image: str) -> dict[str, Any]:
    """A pod of workers, which tells Ray before it goes."""
    memory = {"memory": f"{profile.memory_gib * workers.workers}Gi", "ephemeral-storage": "50Gi"}
    resources = {"cpu": str(workers.cpus + _RAY_CPUS), **memory}
    if workers.gpus:
        resources["nvidia.com/gpu"] = str(workers.gpus)
    shared = "8Gi" if workers.gpus else "2Gi"
    container = _container("ray-worker", image, resources)
    drain = ["python", "-m", "crossover.platform.cluster.drain", str(_DRAIN_SECONDS)]
    container["lifecycle"] = {"preStop": {"exec": {"command": drain}}}
    spec = {
        **_pod(WORKER_ACCOUNT, token=False),
        "containers": [container],
        "terminationGracePeriodSeconds": _SPOT_GRACE_SECONDS if profile.spot else _GRACE_SECONDS,
        "volumes": _volumes(shared, "40Gi"),
    }
    selector = {
        key: value for key, value in profile.node_selector.items() if workers.gpus or not key.startswith("nvidia.com/")
    }
    if selector:
        spec["nodeSelector"] = selector
    if tolerations := _tolerations(profile, workers):
        spec["tolerations"] = tolerations
    return {"metadata": {"labels": _labels("worker")}, "spec": spec}


def with_object_store(template: dict[str, Any]) -> dict[str, Any]:
    """A pod's template for a study in an object store: credentials by reference, working copies on its own disk."""
    (container,) = template["spec"]["containers"]
    others = [variable for variable in container["env"] if variable["name"] != "CROSSOVER_CACHE"]
    container = {
        **container,
        "env": [{"name": "CROSSOVER_CACHE", "value": _LOCAL_CACHE}, *others],
        "envFrom": [{"secretRef": {"name": STORE_SECRET, "optional": True}}],
    }
    return {**template, "spec": {**template["spec"], "containers": [container]}}


def submitter_pod(image: str) -> dict[str, Any]:
    """The pod that submits in K8sJobMode; the operator gives it the command. Its own has no security context."""
    container = {
        "name": "ray-job-submitter",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": _as_limits({"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}),
        "securityContext": SECURE_CONTAINER,
    }
    return {
        "metadata": {"labels": _labels("submitter")},
        "spec": {
            **_pod(WORKER_ACCOUNT, token=False),
            "containers": [container],
        },
    }


def _labels(component: str) -> dict[str, str]:
    return {**PART_OF, "app.kubernetes.io/component": component}


def _container(
    name: str,
    image: str,
    resources: Mapping[str, str],
    mounts: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    folders = {"shm": "/dev/shm", "storage": STORAGE_FOLDER, **(mounts or {}), "tmp": "/tmp"}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in {**_ENVIRONMENT, **(environment or {})}.items()],
        "resources": _as_limits(resources),
        "securityContext": SECURE_CONTAINER,
        "volumeMounts": [
            {"name": volume, "mountPath": folder, **({"readOnly": True} if volume == "study" else {})}
            for volume, folder in folders.items()
        ],
    }


def _as_limits(resources: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"limits": dict(resources), "requests": dict(resources)}


def _pod(account: str, *, token: bool) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": token,
        "restartPolicy": "Never",  # autoscaler v2 asks for it; the operator replaces the pod
        "securityContext": _SECURE_POD,
        "serviceAccountName": account,
    }


def _volumes(shared: str, temporary: str) -> list[dict[str, Any]]:
    return [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        {"name": "storage", "persistentVolumeClaim": {"claimName": _CLAIM}},
        {"name": "tmp", "emptyDir": {"sizeLimit": temporary}},
    ]


def _tolerations(profile: Profile, workers: Workers) -> list[dict[str, str]]:
    found = []
    if workers.gpus:
        found.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if profile.spot:
        found.append({"key": SPOT_LABEL, "operator": "Equal", "value": "spot", "effect": "NoSchedule"})
    return found
