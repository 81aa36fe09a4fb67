"""`crossover k8s submit` and `status` over a kubectl that keeps its cluster in a folder, and without any."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossover.platform.cluster.job_status import job_state, print_job_status, state_of
from crossover.platform.cluster.kubectl import kubectl
from crossover.platform.cluster.submit import submit
from crossover.trainers.errors import CrossoverError

KUBECTL = """#!{python}
import json, pathlib, sys, yaml
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
job = here / "job.json"
if (here / "broken").exists():
    sys.exit("Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout")
if words[0] == "get" and job.exists():
    print(job.read_text())
if words[0] == "delete":
    job.unlink()
if words[0] == "apply":
    for value in yaml.safe_load_all(sys.stdin):
        job.write_text(json.dumps(value))
        print(f"{{value['kind'].lower()}}.ray.io/{{value['metadata']['name']}} serverside-applied")
"""

JobOf = Callable[..., dict[str, Any]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the only job of a cluster."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").write_text(KUBECTL.format(python=sys.executable))
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def manifest(tmp_path: Path, job_of: JobOf) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job_of()))
    return file


def set_status(cluster: Path, job: dict[str, Any], **status: Any) -> None:
    (cluster / "job.json").write_text(json.dumps({**job, "status": status}))


def calls(cluster: Path) -> list[list[str]]:
    return [json.loads(line) for line in (cluster / "calls").read_text().splitlines()]


def test_manifest_is_applied_on_the_servers_side(cluster: Path, manifest: Path, job_of: JobOf) -> None:
    assert submit(manifest) == ["rayjob.ray.io/quickstart serverside-applied"]
    assert calls(cluster)[-1][:3] == ["apply", "--server-side", "--field-manager=crossover"]
    assert json.loads((cluster / "job.json").read_text()) == job_of()


@pytest.mark.parametrize("deployment", ["", "Initializing", "Running", "Retrying", "Suspended"])
def test_job_that_has_not_ended_is_left_alone(cluster: Path, manifest: Path, job_of: JobOf, deployment: str) -> None:
    set_status(cluster, job_of(), jobDeploymentStatus=deployment)
    with pytest.raises(CrossoverError, match="has not ended"):
        submit(manifest)
    assert {call[0] for call in calls(cluster)} == {"get"}


@pytest.mark.parametrize("deployment", ["Complete", "Failed", "ValidationFailed"])
def test_job_that_has_ended_is_made_anew(cluster: Path, manifest: Path, job_of: JobOf, deployment: str) -> None:
    set_status(cluster, job_of(), jobDeploymentStatus=deployment)
    assert "the study goes on" in submit(manifest)[0]
    assert [call[0] for call in calls(cluster)] == ["get", "delete", "apply"]


def test_wrong_manifest_and_placeholder_never_reach_the_cluster(cluster: Path, tmp_path: Path, job_of: JobOf) -> None:
    placeholder, wrong = job_of(image=None), job_of()
    wrong["spec"]["entrypoint"] = "crossover run x && ls"
    for number, (job, says) in enumerate(((placeholder, "placeholder"), (wrong, "entrypoint"))):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(job))
        with pytest.raises(CrossoverError, match=says):
            submit(file)
    assert not (cluster / "calls").exists()


def test_without_kubectl_one_error_says_what_to_do(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CrossoverError, match="kubectl is not on the PATH: install it"):
        submit(manifest)
    with pytest.raises(CrossoverError, match="kubectl is not on the PATH"):
        job_state("quickstart", "crossover")


def test_what_kubectl_says_is_handed_on(cluster: Path) -> None:
    (cluster / "broken").touch()
    with pytest.raises(CrossoverError, match="get pods` fails: Unable to connect to the server"):
        kubectl("get", "pods")


def test_unknown_job_is_named(cluster: Path) -> None:
    with pytest.raises(CrossoverError, match="there is no RayJob mine in namespace team"):
        job_state("mine", "team")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({}, "does not watch this namespace"),
        ({"jobDeploymentStatus": "Initializing"}, "pods wait for machines"),
        ({"jobDeploymentStatus": "Retrying", "failed": 1}, "a new cluster goes on"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "activeDeadlineSeconds is over"),
        ({"jobDeploymentStatus": "Failed", "reason": "AppFailed"}, "its log says why"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "the driver has ended"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "FAILED"}, "ended as FAILED"),
        ({"jobDeploymentStatus": "New"}, "does not know"),
    ],
)
def test_states_are_explained(status: dict[str, Any], says: str, job_of: JobOf) -> None:
    assert says in state_of({**job_of(), "status": status}).means


def test_status_is_printed_for_people_and_programs(
    cluster: Path, job_of: JobOf, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "quickstart-x", "failed": 1}
    set_status(cluster, job_of(), **status)
    print_job_status("quickstart", "crossover", as_json=False)
    printed = capsys.readouterr().out
    assert "crossover/quickstart: Running, driver RUNNING, attempt 2" in printed
    assert "cluster quickstart-x" in printed
    print_job_status("quickstart", "crossover", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["deployment"], found["job"], found["attempts"], found["has_ended"]) == (
        "Running",
        "RUNNING",
        2,
        False,
    )
