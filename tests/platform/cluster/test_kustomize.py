"""The static objects: each by itself, and what kustomize makes of base and components where kubectl is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossover.platform.cluster.lint import Document, lint, parse_manifest, read_manifest
from crossover.platform.cluster.lint.core_kinds import is_core
from crossover.platform.cluster.lint.pods import pods_of
from crossover.platform.cluster.lint.schema import Crd
from crossover.platform.cluster.pods import HEAD_ACCOUNT, WORKER_ACCOUNT

pytestmark = pytest.mark.integration

K8S = Path(__file__).resolve().parents[3] / "k8s"
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
FILES = sorted(path for folder in ("base", "components") for path in (K8S / folder).rglob("*.yaml"))
OBJECTS = [file for file in FILES if file.name != "kustomization.yaml"]

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, for kustomize")


def base(kind: str) -> Iterator[dict[str, Any]]:
    for file in (K8S / "base").glob("*.yaml"):
        yield from (one.value for one in read_manifest(file) if one.kind == kind)


def built(folder: Path, **kustomization: Any) -> list[Document]:
    """What kustomize makes of it; it follows no link out of its root, so all is copied into it."""
    shutil.copytree(K8S, folder / "k8s")
    document = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **kustomization}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse_manifest(done.stdout, "what kustomize builds")


@pytest.mark.parametrize("file", OBJECTS, ids=lambda file: str(file.relative_to(K8S)))
def test_every_static_object_is_clean(file: Path) -> None:
    assert not lint(read_manifest(file)).errors


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(K8S)))
def test_every_file_is_named_by_its_kustomization(file: Path) -> None:
    (kustomization,) = read_manifest(file.parent / "kustomization.yaml")
    listed = kustomization.value.get("resources", [])
    assert file.name == "kustomization.yaml" or file.name in listed


def test_namespace_enforces_restricted() -> None:
    (namespace,) = base("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_is_denied_before_something_is_allowed() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in base("NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_in = [rule for spec in policies.values() for rule in spec.get("ingress", []) if not rule.get("from")]
    assert not open_in, "a rule without `from` lets everybody in"
    to_dashboard = [name for name, spec in policies.items() if "'port': 8265" in str(spec.get("ingress"))]
    assert to_dashboard == ["submit-to-dashboard"]


def test_users_may_neither_look_into_pods_nor_read_secrets() -> None:
    (role,) = base("Role")
    granted = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert not any("*" in pair or pair[0] in ("secrets", "pods/exec", "pods/attach") for pair in granted)
    assert not any(True for _ in base("ClusterRole")) and not any(True for _ in base("ClusterRoleBinding"))


def test_accounts_that_jobs_name_are_there_without_a_token() -> None:
    accounts = {account["metadata"]["name"]: account for account in base("ServiceAccount")}
    assert set(accounts) == {HEAD_ACCOUNT, WORKER_ACCOUNT}
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())


def test_claim_is_the_one_that_jobs_name() -> None:
    (claim,) = base("PersistentVolumeClaim")
    (job,) = read_manifest(K8S / "rendered" / "dev-cpu.yaml")
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods_of(job)
        for volume in pod.spec.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert claims == {claim["metadata"]["name"]}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_budget_keeps_the_head_that_is_rendered() -> None:
    (budget,) = base("PodDisruptionBudget")
    (job,) = read_manifest(K8S / "rendered" / "multi-node-gpu.yaml")
    (head,) = [pod for pod in pods_of(job) if pod.role == "head"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= head.template["metadata"]["labels"].items()


@needs_kubectl
def test_base_builds_and_is_clean(tmp_path: Path) -> None:
    documents = built(tmp_path, resources=["k8s/base"])
    assert not lint(documents).errors
    assert {one.value["metadata"].get("namespace", "crossover") for one in documents} == {"crossover"}


@needs_kubectl
@pytest.mark.parametrize("component", COMPONENTS)
def test_component_builds_over_base_and_job_and_is_clean(component: str, tmp_path: Path, crds: list[Crd]) -> None:
    resources = ["k8s/base", "k8s/rendered/spot-sweep.yaml"]
    documents = built(tmp_path, resources=resources, components=[f"k8s/components/{component}"])
    assert not lint(documents, crds).errors
    (job,) = [one for one in documents if one.kind == "RayJob"]
    (group,) = job.value["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["template"]["spec"]["containers"], "a patch has replaced the list of groups"
    if component == "spot":
        selector = group["template"]["spec"]["nodeSelector"]
        assert (selector["cloud.google.com/gke-spot"], "ray.io/market-type" in selector) == ("true", False)
    if component == "redis-ft":
        options = job.value["spec"]["rayClusterSpec"]["gcsFaultToleranceOptions"]
        assert "valueFrom" in options["redisPassword"]
    if component == "kueue":
        assert {one.kind for one in documents if not is_core(one)} > {"ClusterQueue", "LocalQueue"}
