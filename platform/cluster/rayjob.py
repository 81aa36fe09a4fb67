"""`render`: the RayJob of a study, as a plain value.

The study travels in the manifest: the head's pod carries its YAML as an annotation and mounts it as a file, so one
object says all, and no other has to be kept in step. What is recovered is keyed by the study's name and never by a job
id: a new cluster runs the same command on the same storage, and resumes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from crossover.platform.cluster.pods import (
    OBJECT_STORE_BYTES,
    PART_OF,
    SECURE_CONTAINER,
    STORAGE_FOLDER,
    STUDY_FILE,
    head_pod,
    submitter_pod,
    with_object_store,
    worker_pod,
)
from crossover.platform.cluster.profiles import PROFILES, SPOT_LABEL, Profile
from crossover.platform.cluster.sizing import Workers, size_workers
from crossover.platform.study import Study, read_study
from crossover.platform.study.document import write_yaml
from crossover.search_spaces import near
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import is_uri

__all__ = ["PLACEHOLDER_IMAGE", "TOKEN_SECRET", "Rendered", "Rendering", "is_pinned", "job_name", "render"]

PLACEHOLDER_IMAGE = f"registry.example.com/crossover@sha256:{'0' * 64}"
TOKEN_SECRET = "crossover-ray-token"
"""Secret with the key `auth_token`; made by the user, and never part of a manifest."""

_PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_MAX_NAME_CHARACTERS = 47  # the operator's rule for a RayJob
_HOUR_SECONDS = 3600
_PRE_RUNNING_SECONDS = 1800
_IDLE_SECONDS = 900


@dataclass(frozen=True)
class Rendering:
    """What is asked for.

    Args:
        source: a study file, or the name of a built-in study.
        profile: name of a profile.
        image: by digest; None: a placeholder that no cluster can pull.
        overrides: `key=value` each, of the study.
        overlay: another document that is laid over the study: gpu, or a file.
        namespace: of the job.
        at_once: trials at once; None: as many as the study has, within the profile.
        queue: Kueue's local queue; None: the job starts at once.
        gpu_bytes: memory of one GPU, for `resources.workers: auto`.
    """

    source: str
    profile: str
    image: str | None = None
    overrides: Sequence[str] = ()
    overlay: str | None = None
    namespace: str = "crossover"
    at_once: int | None = None
    queue: str | None = None
    gpu_bytes: float = 80e9


@dataclass(frozen=True)
class Rendered:
    """A manifest, with what its reader should know."""

    manifest: dict[str, Any]
    workers: Workers
    warnings: tuple[str, ...]

    def yaml(self) -> str:
        """The manifest as text."""
        return write_yaml(self.manifest)


def render(asked: Rendering) -> Rendered:
    """The RayJob of a study.

    Raises:
        CrossoverError: the study is wrong, does not fit the profile, or the image is not pinned.
    """
    profile = _profile(asked.profile)
    if asked.image is not None and not is_pinned(asked.image):
        raise CrossoverError(
            f"--image {asked.image}: a tag can be moved to other code in the middle of a study, so the image is pinned "
            "by digest: NAME@sha256:<64 hex digits>, as `docker buildx imagetools inspect` prints it"
        )
    warnings: list[str] = []
    if asked.image is None:
        warnings.append(f"no --image, so the manifest names {PLACEHOLDER_IMAGE}, which no cluster can pull")
    study = _study(asked, profile, warnings)
    workers = size_workers(study, profile, asked.at_once, asked.gpu_bytes)
    job = _Job(study, profile, workers, asked.image or PLACEHOLDER_IMAGE, asked.queue)
    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": job_name(study.name),
            "namespace": asked.namespace,
            "labels": job.labels(),
            "annotations": {"crossover/profile": profile.name},
        },
        "spec": job.spec(),
    }
    return Rendered(json.loads(json.dumps(manifest)), workers, tuple(warnings))  # nothing in it is shared


def is_pinned(image: str) -> bool:
    """Whether an image is named by digest."""
    return _PINNED.fullmatch(image) is not None


def job_name(study_name: str) -> str:
    """A name that the operator takes: the study's where it is one, else close to it and as unique."""
    name = re.sub(r"[^a-z0-9]+", "-", study_name.lower()).strip("-")
    name = name if name[:1].isalpha() else f"study-{name}"
    if name == study_name and len(name) <= _MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(study_name.encode()).hexdigest()[:6]
    return f"{name[: _MAX_NAME_CHARACTERS - 7].rstrip('-')}-{digest}"


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise CrossoverError(f"profile {name!r} is not known{near(name, PROFILES)}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def _study(asked: Rendering, profile: Profile, warnings: list[str]) -> Study:
    """The study with GPUs where the profile has some, and none where it has none: results do not depend on it."""
    study = read_study(asked.source, asked.overrides, asked.overlay)
    if bool(study.resources.gpus_per_worker) != bool(profile.pod_gpus):
        gpus = int(bool(profile.pod_gpus))
        has = "has GPUs" if gpus else "has none"
        warnings.append(
            f"resources.gpus_per_worker = {study.resources.gpus_per_worker:g}, but profile {profile.name} {has}: "
            f"the manifest's study has {gpus}"
        )
        study = read_study(asked.source, [*asked.overrides, f"resources.gpus_per_worker={gpus}"], asked.overlay)
    corpus = study.data.corpus
    if "/" in corpus and not corpus.startswith(f"{STORAGE_FOLDER}/"):
        warnings.append(
            f"data.corpus = {corpus} is no folder of the cluster: copy it to the shared volume and give "
            f"--set data.corpus={STORAGE_FOLDER}/corpora/{PurePosixPath(corpus).name}"
        )
    return study


@dataclass(frozen=True)
class _Job:
    study: Study
    profile: Profile
    workers: Workers
    image: str
    queue: str | None

    @property
    def autoscales(self) -> bool:
        """Machines that are lost are asked for again; Kueue admits a fixed number of pods."""
        return self.profile.spot and self.queue is None

    def labels(self) -> dict[str, str]:
        labels = {"app.kubernetes.io/name": "crossover", **PART_OF}
        return labels if self.queue is None else {**labels, "kueue.x-k8s.io/queue-name": self.queue}

    def spec(self) -> dict[str, Any]:
        spec = {
            "entrypoint": self.entrypoint(),
            "submissionMode": self.profile.submission,
            "backoffLimit": self.profile.backoff,
            "activeDeadlineSeconds": self.deadline_seconds(),
            "preRunningDeadlineSeconds": _PRE_RUNNING_SECONDS,
            **self.ending(),
        }
        if self.profile.submission == "K8sJobMode":
            spec["submitterConfig"] = {"backoffLimit": 3}
            spec["submitterPodTemplate"] = submitter_pod(self.image)
        return {**spec, "rayClusterSpec": self.cluster()}

    def entrypoint(self) -> str:
        """One simple command: what a shell would make of more than that would run in the submitter's pod."""
        words = ["crossover", "run", STUDY_FILE]
        if not is_uri(self.study.storage):
            words += ["--storage", self.storage_folder()]
        return shlex.join([*words, "--report"])

    def storage_folder(self) -> str:
        given = self.study.storage
        return given if given.startswith(f"{STORAGE_FOLDER}/") else f"{STORAGE_FOLDER}/runs"

    def deadline_seconds(self) -> int:
        """The study's own limit of time, with an hour to start and to end; or the profile's."""
        wall_seconds = self.study.budget.wall_seconds
        if wall_seconds is None:
            return self.profile.active_seconds
        return min(self.profile.active_seconds, int(wall_seconds) + _HOUR_SECONDS)

    def ending(self) -> dict[str, Any]:
        """When machines go back: soon after success; after a failure the head stays a day, for its logs."""
        if self.queue is not None:
            return {"suspend": True, "shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": 300}
        rules = [("SUCCEEDED", "DeleteCluster", 300), ("FAILED", "DeleteCluster", 24 * _HOUR_SECONDS)]
        if not self.autoscales:
            rules.insert(1, ("FAILED", "DeleteWorkers", 60))
        conditions: list[dict[str, Any]] = [
            {"policy": policy, "condition": {"jobStatus": status, "ttlSeconds": seconds}}
            for status, policy, seconds in rules
        ]
        late = {"policy": "DeleteCluster", "condition": {"jobDeploymentStatus": "Failed", "ttlSeconds": _HOUR_SECONDS}}
        return {"deletionStrategy": {"deletionRules": [*conditions, late]}}

    def cluster(self) -> dict[str, Any]:
        cluster: dict[str, Any] = {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token", "secretName": TOKEN_SECRET},
            "headGroupSpec": {
                "serviceType": "ClusterIP",
                "rayStartParams": {"num-cpus": "0", "object-store-memory": str(OBJECT_STORE_BYTES)},
                "template": head_pod(self.profile, self.image, self.study_yaml(), api_access=self.autoscales),
            },
            "workerGroupSpecs": [self.worker_group()],
        }
        if is_uri(self.study.storage):
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                group["template"] = with_object_store(group["template"])
        return {**cluster, **self.autoscaling()} if self.autoscales else cluster

    def study_yaml(self) -> str:
        return write_yaml(self.study.model_dump(mode="json", exclude_unset=True))

    def worker_group(self) -> dict[str, Any]:
        workers, spot = self.workers, self.profile.spot
        group: dict[str, Any] = {
            "groupName": "gpu" if workers.gpus else "cpu",
            "replicas": workers.pods,
            "minReplicas": min(workers.pods, workers.fewest_pods) if self.autoscales else workers.pods,
            "maxReplicas": workers.pods,
            "rayStartParams": {"num-cpus": str(workers.cpus), "object-store-memory": str(OBJECT_STORE_BYTES)},
            "template": worker_pod(self.profile, workers, self.image),
        }
        if spot:
            group["labels"] = {SPOT_LABEL: "spot"}
        if self.autoscales:
            group["idleTimeoutSeconds"] = _IDLE_SECONDS
        return group

    def autoscaling(self) -> dict[str, Any]:
        """A lost machine is asked for again while trials wait for it, and idle ones go back at the end."""
        small = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}
        return {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": _IDLE_SECONDS,
                "imagePullPolicy": "IfNotPresent",
                "resources": {"limits": small, "requests": dict(small)},
                "securityContext": dict(SECURE_CONTAINER),
                "upscalingMode": "Default",
            },
        }
