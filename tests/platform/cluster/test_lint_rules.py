"""One bad manifest for every rule that is not in the CRD: the operator's, PodSecurity's, and our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossover.platform.cluster.lint import Document, Finding, lint, parse_manifest, read_manifest
from crossover.platform.cluster.lint.core_kinds import core_schemas_are_there
from crossover.trainers.errors import CrossoverError

CLUSTER = "rayClusterSpec"
HEAD = f"{CLUSTER}.headGroupSpec"
WORKERS = f"{CLUSTER}.workerGroupSpecs.0"
HEAD_POD, WORKER_POD = f"{HEAD}.template.spec", f"{WORKERS}.template.spec"
HEAD_BOX, WORKER_BOX = f"{HEAD_POD}.containers.0", f"{WORKER_POD}.containers.0"
SUBMITTER = "submitterPodTemplate"
ABSENT = object()

JobOf = Callable[..., dict[str, Any]]
FoundIn = Callable[[dict[str, Any]], list[Finding]]


def changed(manifest: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A manifest with settings of its spec changed: `a.0.b` -> value, or ABSENT."""
    for path, value in changes.items():
        *parts, last = path.split(".")
        holder: Any = manifest["spec"]
        for part in parts:
            holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
        if value is ABSENT:
            del holder[last]
        elif isinstance(holder, list):
            holder.append(value)
        else:
            holder[last] = value
    return manifest


def rule(policy: str, seconds: int = 0, **condition: str) -> dict[str, Any]:
    return {"policy": policy, "condition": {**(condition or {"jobStatus": "FAILED"}), "ttlSeconds": seconds}}


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    return {"deletionStrategy": {"deletionRules": list(given)}}


def variable(name: str, value: str = "x") -> dict[str, str]:
    return {"name": name, "value": value}


OPERATOR: list[tuple[str, dict[str, Any], str]] = [
    ("dev-cpu", {"submissionMode": "HttpMode"}, "it is one of K8sJobMode, HTTPMode"),
    ("dev-cpu", {"suspend": True}, "needs shutdownAfterJobFinishes"),
    ("dev-cpu", {"ttlSecondsAfterFinished": 5}, "needs shutdownAfterJobFinishes"),
    ("dev-cpu", {"shutdownAfterJobFinishes": True}, "excludes deletionStrategy.deletionRules"),
    ("spot-sweep", rules(rule("DeleteWorkers")), "excludes enableInTreeAutoscaling"),
    ("dev-cpu", rules(rule("DeleteSelf"), rule("DeleteSelf")), "stands twice for the same condition"),
    ("dev-cpu", rules(rule("DeleteWorkers", 9), rule("DeleteCluster", 5)), "the larger thing goes last"),
    ("dev-cpu", rules(rule("DeleteCluster", 9), rule("DeleteSelf", 5)), "the larger thing goes last"),
    ("dev-cpu", {"clusterSelector": {"a": "b"}}, "gets no new one"),
    (
        "dev-cpu",
        {"clusterSelector": {"a": "b"}, "submissionMode": "SidecarMode"},
        "clusterSelector excludes SidecarMode",
    ),
    ("dev-cpu", {"clusterSelector": {"a": "b"}, "suspend": True}, "clusterSelector excludes suspend"),
    ("dev-cpu", {"submissionMode": "SidecarMode"}, "SidecarMode takes none"),
    ("dev-cpu", {"submissionMode": "InteractiveMode"}, "InteractiveMode takes none"),
    ("dev-cpu", {"entrypoint": ABSENT}, "required and not set"),
    ("dev-cpu", {CLUSTER: ABSENT}, "required and not set: give it, or clusterSelector"),
    ("dev-cpu", {"activeDeadlineSeconds": 0}, "must be above 0"),
    ("dev-cpu", {"backoffLimit": -1}, "must be at least 0"),
    ("dev-cpu", {"runtimeEnvYAML": "a: ["}, "no valid YAML"),
    ("dev-cpu", {"runtimeEnvYAML": "text"}, "is no mapping"),
    ("dev-cpu", {"runtimeEnvYAML": "pip: [numpy]"}, "build them into the image"),
    ("dev-cpu", {"runtimeEnvYAML": "working_dir: https://x.org/a.zip"}, "fetches code at run time"),
    ("spot-sweep", {f"{WORKERS}.minReplicas": 99}, "is more than maxReplicas"),
    ("dev-cpu", {f"{HEAD}.resources": {"CPU": "1"}}, "say the same thing twice"),
    ("dev-cpu", {f"{WORKERS}.resources": {"CPU": "1"}}, "say the same thing twice"),
    ("dev-cpu", {f"{WORKERS}.rayStartParams.labels": "a=b"}, "set the group's labels"),
    ("spot-sweep", {f"{HEAD_POD}.restartPolicy": "Always"}, "autoscaler v2 needs Never"),
    ("spot-sweep", {f"{WORKER_POD}.restartPolicy": "OnFailure"}, "autoscaler v2 needs Never"),
    ("spot-sweep", {f"{CLUSTER}.autoscalerOptions.version": "v1"}, "needs enableInTreeAutoscaling with autoscaler"),
    ("dev-cpu", {f"{WORKERS}.idleTimeoutSeconds": 60}, "needs enableInTreeAutoscaling"),
    ("dev-cpu", {f"{WORKERS}.priority": 1}, "needs autoscaler v2"),
    ("spot-sweep", {f"{WORKERS}.priority": 1, f"{CLUSTER}.rayVersion": "2.55.0"}, "needs autoscaler v2 and rayVersion"),
    ("dev-cpu", {f"{CLUSTER}.rayVersion": "2.51.0"}, "needs it set, to 2.52"),
    ("dev-cpu", {f"{CLUSTER}.rayVersion": ABSENT}, "needs it set, to 2.52"),
    ("dev-cpu", {f"{CLUSTER}.authOptions.enableK8sTokenAuth": True}, "not supported for a RayJob"),
    ("dev-cpu", {f"{CLUSTER}.authOptions": ABSENT}, "whoever reaches the dashboard's port can run code"),
    ("dev-cpu", {f"{CLUSTER}.authOptions.mode": "disabled"}, "whoever reaches the dashboard's port can run code"),
    ("dev-cpu", {f"{HEAD_BOX}.env.+": variable("RAY_REDIS_ADDRESS")}, "set gcsFaultToleranceOptions.redisAddress"),
    (
        "dev-cpu",
        {
            f"{CLUSTER}.gcsFaultToleranceOptions": {"redisAddress": "r:6379"},
            f"{HEAD}.rayStartParams.redis-password": "x",
        },
        "set gcsFaultToleranceOptions.redisPassword",
    ),
    (
        "dev-cpu",
        {
            f"{CLUSTER}.gcsFaultToleranceOptions": {"redisAddress": "r:6379"},
            f"{HEAD_BOX}.env.+": {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
        },
        "set gcsFaultToleranceOptions.redisPassword",
    ),
    ("dev-cpu", {f"{WORKER_BOX}.env.+": variable("RAY_enable_autoscaler_v2", "1")}, "needs enableInTreeAutoscaling"),
]

SECURITY: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("dev-cpu", {f"{box}.securityContext.{name}": value}, says)
        for box in (HEAD_BOX, WORKER_BOX, f"{SUBMITTER}.spec.containers.0")
        for name, value, says in (
            ("allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
            ("allowPrivilegeEscalation", ABSENT, "allowPrivilegeEscalation"),
            ("capabilities", {"drop": ["NET_RAW"]}, "capabilities.drop"),
            ("capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "capabilities.add"),
            ("runAsNonRoot", False, "runAsNonRoot"),
            ("runAsUser", 0, "runAsUser"),
            ("privileged", True, "privileged"),
            ("seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
            ("procMount", "Unmasked", "procMount"),
            ("seLinuxOptions", {"type": "spc_t"}, "seLinuxOptions"),
            ("appArmorProfile", {"type": "Unconfined"}, "appArmorProfile"),
        )
    ),
    *(("dev-cpu", {f"{WORKER_POD}.{name}": True}, name) for name in ("hostNetwork", "hostPID", "hostIPC")),
    ("dev-cpu", {f"{HEAD_POD}.volumes.+": {"name": "x", "hostPath": {"path": "/"}}}, "hostPath"),
    ("dev-cpu", {f"{HEAD_POD}.volumes.+": {"name": "x", "nfs": {"server": "s", "path": "/"}}}, "nfs"),
    ("dev-cpu", {f"{HEAD_POD}.securityContext.sysctls": [{"name": "kernel.msgmax", "value": "1"}]}, "sysctls"),
    ("dev-cpu", {f"{HEAD_POD}.securityContext.runAsUser": 0}, "runAsUser"),
    ("dev-cpu", {f"{WORKER_BOX}.ports": [{"containerPort": 1, "hostPort": 1}]}, "hostPort"),
    ("dev-cpu", {f"{WORKER_BOX}.livenessProbe": {"tcpSocket": {"port": 1, "host": "10.0.0.1"}}}, "tcpSocket.host"),
    ("dev-cpu", {f"{WORKER_POD}.initContainers": [{"name": "i", "image": "x"}]}, "initContainers[0]"),
    ("dev-cpu", {SUBMITTER: ABSENT}, "submitterPodTemplate"),
    ("multi-node-gpu", {"submissionMode": "SidecarMode"}, "submissionMode"),
    ("spot-sweep", {f"{CLUSTER}.autoscalerOptions.securityContext": ABSENT}, "autoscalerOptions.securityContext"),
]

KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
CONTENTS: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("entrypoint", {"entrypoint": f"crossover run x {mark}"}, "is for a shell")
        for mark in ("&& ls", "; ls", "| tee", "$HOME", "`id`", "> f", "< f", "\nls", "*", "{a,b}", "(a)", "~", "# a")
    ),
    ("entrypoint", {"entrypoint": "crossover rnu x"}, "did you mean run"),
    ("entrypoint", {"entrypoint": "crossover run"}, "does not understand"),
    ("entrypoint", {"entrypoint": "crossover run x --stroage y"}, "does not understand"),
    ("entrypoint", {"entrypoint": "crossover run --help"}, "prints help"),
    ("entrypoint", {"entrypoint": "A=1 crossover run x"}, "sets a variable"),
    ("entrypoint", {"entrypoint": "python -m nowhere.cli"}, "no module"),
    ("entrypoint", {"entrypoint": "crossover run 'x"}, "No closing quotation"),
    ("entrypoint", {"entrypoint": "  "}, "is empty"),
    ("image", {f"{HEAD_BOX}.image": "rayproject/ray:2.60.0-py311"}, "not pinned"),
    ("image", {f"{HEAD_BOX}.image": "rayproject/ray:latest"}, "not pinned"),
    ("image", {f"{WORKER_BOX}.image": f"other@sha256:{'cd' * 32}"}, "another image"),
    ("image", {f"{SUBMITTER}.spec.containers.0.image": f"other@sha256:{'cd' * 32}"}, "another image"),
    ("secret", {f"{HEAD_BOX}.env.+": variable("RAY_AUTH_TOKEN")}, "RAY_AUTH_TOKEN has its value"),
    ("secret", {f"{WORKER_BOX}.env.+": variable("WANDB_API_KEY")}, "WANDB_API_KEY has its value"),
    ("secret", {f"{WORKER_BOX}.env.+": variable("AWS_SECRET_ACCESS_KEY")}, "has its value"),
    ("secret", {f"{HEAD}.rayStartParams.redis-password": "x"}, "redis-password has its value"),
    (
        "secret",
        {f"{CLUSTER}.gcsFaultToleranceOptions": {"redisAddress": "r:1", "redisPassword": {"value": "x"}}},
        "redisPassword has its value",
    ),
    ("secret", {"runtimeEnvYAML": "env_vars: {HF_TOKEN: abc}"}, "HF_TOKEN has its value"),
    ("secret", {"metadata": {"note": f"key {KEY}"}}, "an AWS access key"),
    ("secret", {"metadata": {"note": "s3://user:word@store/a"}}, "a password in an address"),
    ("secret", {"metadata": {"note": "-----BEGIN RSA PRIVATE KEY-----"}}, "a private key"),
    ("version", {f"{CLUSTER}.rayVersion": ABSENT}, "required and not set"),
    ("version", {f"{CLUSTER}.rayVersion": "2.59.1"}, "the Ray installed here has"),
    ("version", {f"{HEAD_BOX}.image": f"rayproject/ray:2.59.0-py311@sha256:{'a' * 64}"}, "2.59.0"),
]


def says(found: list[Finding], rule: str, words: str) -> bool:
    return any(one.rule == rule and words in f"{one.where} {one.message}" for one in found)


@pytest.mark.parametrize(("profile", "changes", "words"), OPERATOR)
def test_what_the_operator_refuses_is_found(
    profile: str, changes: dict[str, Any], words: str, job_of: JobOf, found_in: FoundIn
) -> None:
    found = found_in(changed(job_of(profile), changes))
    assert says(found, "operator", words), found


@pytest.mark.parametrize(("profile", "changes", "words"), SECURITY)
def test_what_pod_security_refuses_is_found(
    profile: str, changes: dict[str, Any], words: str, job_of: JobOf, found_in: FoundIn
) -> None:
    found = found_in(changed(job_of(profile), changes))
    assert says(found, "pod-security", words), found


@pytest.mark.parametrize(("rule", "changes", "words"), CONTENTS)
def test_what_a_manifest_must_not_carry_is_found(
    rule: str, changes: dict[str, Any], words: str, job_of: JobOf, found_in: FoundIn
) -> None:
    found = found_in(changed(job_of(), changes))
    assert says(found, rule, words), found


def test_long_and_wrong_names_are_found(job_of: JobOf, found_in: FoundIn) -> None:
    for name in ("a" * 48, "Study", "7b", "a.b", "a-"):
        job = job_of()
        job["metadata"]["name"] = name
        assert says(found_in(job), "operator", "name has at most 47"), name


def test_secrets_by_reference_are_no_finding(job_of: JobOf, found_in: FoundIn) -> None:
    reference = {"secretKeyRef": {"name": "wandb", "key": "key"}}
    variables = {f"{WORKER_BOX}.env.+": {"name": "WANDB_API_KEY", "valueFrom": reference}}
    assert not found_in(changed(job_of(), variables))


def test_secret_with_its_content_is_found() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"auth_token": "x"}}
    assert says(list(lint([Document(secret)]).findings), "secret", "its content")


def test_placeholder_is_a_warning(job_of: JobOf) -> None:
    linted = lint([Document(job_of(image=None))])
    assert {one.level for one in linted.findings} == {"warning"}
    assert not linted.errors


@pytest.mark.skipif(not core_schemas_are_there(), reason="needs kubernetes-validate, of the extra k8s")
def test_core_kinds_are_checked_strictly(job_of: JobOf) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"}, "spec": {"accessMode": []}}
    assert says(list(lint([Document(claim)]).findings), "core", "accessMode")
    job = changed(job_of(), {f"{WORKER_POD}.volumes.0.emptyDirr": {}})
    assert says(list(lint([Document(job)]).findings), "core", "emptyDirr")
    unknown = {"apiVersion": "v1", "kind": "Podd", "metadata": {"name": "a"}}
    assert says(list(lint([Document(unknown)]).findings), "core", "has no v1 Podd")


def test_version_of_lock_and_dockerfile_is_compared(job_of: JobOf, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG RAY_VERSION=2.59.0\n")
    (tmp_path / "requirements.lock").write_text("ray==2.60.0 \\\n    --hash=sha256:aa\n")
    found = [one for one in lint([Document(job_of())], image=tmp_path).findings if one.rule == "version"]
    assert [("Dockerfile has 2.59.0" in one.message) for one in found] == [True]


BOMB = b"\n".join(b"%c: &%c [%s]" % (n, n, b",".join([b"*%c" % (n - 1)] * 8)) for n in range(ord("b"), ord("k")))

# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"---\n---\n", "it is empty"),
        (b"a: [", "line 1"),
        (b"- a", "is no object"),
        (b"a: &x {b: *x}", "an alias inside what it names"),
        (b"a: &a [1,1,1,1,1,1,1,1]\n" + BOMB, "more than 100,000 values"),
        (b"a: 1\na: 2", "stands twice"),
        (b"1: 2", "is no string"),
        (b"a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (b"a: \xff", "no valid YAML"),
        (b"a: " + b"[" * 100 + b"]" * 100, "nested deeper"),
        (b" " * 5_000_000, "more than"),
    ],
)
def test_texts_that_are_no_manifest_are_one_clear_error(content: bytes, words: str) -> None:
    with pytest.raises(CrossoverError, match=words):
        parse_manifest(content, "x.yaml")


def test_aliases_are_read_as_kubectl_reads_them() -> None:
    (document,) = parse_manifest(b"kind: X\na: &x {b: 1}\nc: *x\n", "x.yaml")
    assert document.value == {"kind": "X", "a": {"b": 1}, "c": {"b": 1}}


def test_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CrossoverError, match="No such file"):
        read_manifest(tmp_path / "x.yaml")


def test_several_objects_in_one_file_are_all_checked(job_of: JobOf) -> None:
    documents = parse_manifest(
        b"kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: {a: Yg==}\n---\nkind: X\n", "x"
    )
    assert len(documents) == 2
    assert says(list(lint(documents).findings), "secret", "Secret/a")
