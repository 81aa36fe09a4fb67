"""Where a RayJob stands, and what that means: the operator's words are many, and some look like others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossover.platform.cluster.kubectl import rayjob
from crossover.trainers.errors import CrossoverError

__all__ = ["ENDED", "JobState", "job_state", "print_job_status", "state_of"]

ENDED = ("Complete", "Failed", "ValidationFailed")

_MEANS = {
    "": "the operator has not looked at it yet; if that lasts, it does not watch this namespace, or does not run",
    "Initializing": "the cluster is being made: pods wait for machines, quota or the image. kubectl get pods, and "
    "kubectl describe pod of one that is Pending",
    "Waiting": "the cluster is ready, and waits for its job",
    "Running": "the driver runs",
    "Retrying": "this attempt has failed, and a new cluster goes on from the storage",
    "Suspended": "Kueue has not admitted it yet, or somebody has suspended it",
    "Suspending": "Kueue takes its machines; it goes on when they are given back",
    "Complete": "the driver has ended",
    "Failed": "it is given up; `crossover k8s submit` again goes on from the storage",
    "ValidationFailed": "the operator refuses the manifest: crossover k8s lint says why",
}
_REASONS = {
    "AppFailed": "the driver failed: its log says why (kubectl logs of the head's pod)",
    "SubmissionFailed": "the job could not be submitted: is the Secret with the token there, and the head's pod ready?",
    "DeadlineExceeded": "activeDeadlineSeconds is over; it is not retried. Raise budget.wall_seconds, or submit again",
    "PreRunningDeadlineExceeded": "the pods did not all start in time: machines, quota, image, or the claim on storage",
    "JobStatusCheckTimeoutExceeded": "the dashboard did not answer for 300 s; it is not retried. Memory of the head?",
    "JobDeploymentStatusTransitionGracePeriodExceeded": "the submitter ended while the job ran (a dropped log stream): "
    "submit again, in a profile that uses HTTPMode",
}


@dataclass(frozen=True)
class JobState:
    """A RayJob's state, in the operator's words and in ours."""

    name: str
    namespace: str
    deployment: str
    job: str
    reason: str
    message: str
    attempts: int
    cluster: str
    started: str
    ended: str
    means: str

    @property
    def has_ended(self) -> bool:
        """Whether the operator does nothing more."""
        return self.deployment in ENDED


def job_state(name: str, namespace: str) -> JobState:
    """Asks the cluster.

    Raises:
        CrossoverError: there is no such job, or kubectl fails.
    """
    if (job := rayjob(name, namespace)) is None:
        raise CrossoverError(
            f"there is no RayJob {name} in namespace {namespace}: `kubectl get rayjobs --all-namespaces` lists them; "
            "give its namespace by --namespace"
        )
    return state_of(job)


def state_of(job: Mapping[str, Any]) -> JobState:
    """The state of a RayJob as the API server gives it."""
    metadata, status = job.get("metadata", {}), job.get("status", {})
    deployment, reason = status.get("jobDeploymentStatus", ""), status.get("reason", "")
    means = _MEANS.get(deployment, "a state that this version does not know")
    if deployment == "Complete" and status.get("jobStatus") not in ("SUCCEEDED", None, ""):
        means = f"the driver has ended as {status['jobStatus']}"
    if reason in _REASONS:
        means = f"{means}; {_REASONS[reason]}"
    return JobState(
        name=metadata.get("name", ""),
        namespace=metadata.get("namespace", ""),
        deployment=deployment,
        job=status.get("jobStatus", ""),
        reason=reason,
        message=status.get("message", ""),
        attempts=status.get("failed", 0) + status.get("succeeded", 0) + (deployment not in ("", *ENDED)),
        cluster=status.get("rayClusterName", ""),
        started=status.get("startTime", ""),
        ended=status.get("endTime", ""),
        means=means,
    )


def print_job_status(name: str, namespace: str, *, as_json: bool) -> None:
    """Prints where a RayJob stands."""
    state = job_state(name, namespace)
    if as_json:
        print(json.dumps({**asdict(state), "has_ended": state.has_ended}, indent=2))
        return
    words = [state.deployment or "new", state.job and f"driver {state.job}", state.reason, f"attempt {state.attempts}"]
    print(f"{state.namespace}/{state.name}: {', '.join(word for word in words if word)}")
    print(f"  {state.means}")
    if state.message:
        print(f"  the operator says: {state.message}")
    if state.cluster:
        print(f"  cluster {state.cluster}, started {state.started or 'not yet'}, ended {state.ended or 'not yet'}")
