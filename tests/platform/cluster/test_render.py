"""RayJobs from studies: what is asked for is in them, and what the golden files show is what is rendered."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossover.platform.cluster.lint import Document, lint
from crossover.platform.cluster.lint.schema import Crd
from crossover.platform.cluster.profiles import PROFILES
from crossover.platform.cluster.rayjob import PLACEHOLDER_IMAGE, Rendered, Rendering, job_name, render
from crossover.platform.study import builtin_studies, read_study, study_of
from crossover.trainers.errors import CrossoverError

ROOT = Path(__file__).resolve().parents[3]
IMAGE = f"registry.example.com/team/crossover@sha256:{'ab' * 32}"
GPU = "nvidia.com/gpu"

JobOf = Callable[..., dict[str, Any]]


def rendered(profile: str, *overrides: str, source: str = "quickstart", **asked: Any) -> Rendered:
    return render(Rendering(source, profile, IMAGE, overrides, **asked))


def cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["rayClusterSpec"]
    return found


def group(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = cluster(manifest)["workerGroupSpecs"]
    return dict(found)


def worker(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = group(manifest)["template"]["spec"]["containers"]
    return dict(found)


def head_template(manifest: dict[str, Any]) -> dict[str, Any]:
    return dict(cluster(manifest)["headGroupSpec"]["template"])


@pytest.mark.parametrize("profile", PROFILES)
def test_golden_files_are_what_the_quickstart_renders_to(profile: str) -> None:
    golden = ROOT / "k8s" / "rendered" / f"{profile}.yaml"
    remedy = f".venv/bin/crossover k8s render quickstart --profile {profile} > k8s/rendered/{profile}.yaml"
    assert golden.read_text() == render(Rendering("quickstart", profile)).yaml(), f"they differ; if meant: {remedy}"


CASES = [(profile, "quickstart", queue) for profile in PROFILES for queue in (None, "team")]


@pytest.mark.parametrize(("profile", "study", "queue"), [*CASES, *(("spot-sweep", s, None) for s in builtin_studies())])
def test_every_rendered_job_is_clean(profile: str, study: str, queue: str | None, crds: list[Crd]) -> None:
    job = rendered(profile, source=study, queue=queue)
    linted = lint([Document(yaml.safe_load(job.yaml()))], crds, ROOT / "k8s" / "image")
    assert not linted.findings
    assert yaml.safe_load(job.yaml()) == job.manifest


@pytest.mark.parametrize("profile", PROFILES)
def test_head_runs_no_trial_and_the_entrypoint_is_one_command(profile: str, job_of: JobOf) -> None:
    job = job_of(profile)
    assert cluster(job)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert job["spec"]["entrypoint"] == "crossover run /mnt/study/study.yaml --storage /mnt/storage/runs --report"
    assert cluster(job)["rayVersion"] == version("ray")
    assert job["spec"]["backoffLimit"] > 0
    assert cluster(job)["authOptions"] == {"mode": "token", "secretName": "crossover-ray-token"}


@pytest.mark.parametrize("study", builtin_studies())
def test_study_in_the_manifest_is_the_study(study: str) -> None:
    template = head_template(rendered("dev-cpu", source=study).manifest)
    text = template["metadata"]["annotations"]["crossover/study"]
    assert study_of(yaml.safe_load(text), "the manifest's study") == read_study(study)
    (volume,) = [one for one in template["spec"]["volumes"] if "downwardAPI" in one]
    (item,) = volume["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == "metadata.annotations['crossover/study']"
    (mount,) = [one for one in template["spec"]["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    assert f"{mount['mountPath']}/{item['path']}" == "/mnt/study/study.yaml"


def test_overrides_reach_the_study_in_the_manifest() -> None:
    annotations = head_template(rendered("dev-cpu", "search.trials=7").manifest)["metadata"]["annotations"]
    assert yaml.safe_load(annotations["crossover/study"])["search"]["trials"] == 7


# --- resources come from the study -----------------------------------------------------------------------------------


def test_workers_of_one_trial_fill_pods() -> None:
    job = rendered("multi-node-gpu", "resources.workers=8", "resources.cpus_per_worker=4", at_once=3)
    assert group(job.manifest)["replicas"] == 3
    limits = worker(job.manifest)["resources"]["limits"]
    assert (limits[GPU], limits["cpu"]) == ("8", str(8 * 4 + 1))
    assert group(job.manifest)["rayStartParams"]["num-cpus"] == str(8 * 4)
    assert job.workers.trials == 3


@pytest.mark.parametrize(
    ("profile", "overrides", "at_once", "pods", "gpus"),
    [
        ("single-node-gpu", [], 3, 1, 3),
        ("single-node-gpu", [], None, 1, 8),  # twelve trials can run at once, one machine has eight GPUs
        ("multi-node-gpu", [], None, 2, 8),
        ("spot-sweep", [], None, 12, 1),
        ("spot-sweep", ["resources.workers=4"], None, 12, 4),
        ("spot-sweep", ["search.trials=40"], None, 32, 1),  # 82 trials, and 32 pods at most
        ("spot-sweep", ["search.trials=40"], 50, 50, 1),
        ("spot-sweep", ["resources.gpus_per_worker=0.25"], 8, 2, 1),  # four trials share a GPU
        ("dev-cpu", [], None, 2, 0),
    ],
)
def test_pods_follow_trials_and_profile(
    profile: str, overrides: list[str], at_once: int | None, pods: int, gpus: int
) -> None:
    job = rendered(profile, *overrides, at_once=at_once).manifest
    assert group(job)["replicas"] == group(job)["maxReplicas"] == pods
    assert worker(job)["resources"]["limits"].get(GPU, "0") == str(gpus)


def test_workers_by_memory_are_counted_with_the_gpus_that_are_named() -> None:
    asked = ("resources.workers=auto", "model.size=1B", "data.sequence_length=512")
    small = rendered("multi-node-gpu", *asked, at_once=1, gpu_bytes=16e9).workers
    large = rendered("multi-node-gpu", *asked, at_once=1, gpu_bytes=80e9).workers
    assert small.pods * small.workers > large.pods * large.workers >= 1


def test_gpus_follow_the_profile_and_a_warning_says_so() -> None:
    job = rendered("single-node-gpu")
    assert any("gpus_per_worker" in warning for warning in job.warnings)
    text = head_template(job.manifest)["metadata"]["annotations"]["crossover/study"]
    assert yaml.safe_load(text)["resources"]["gpus_per_worker"] == 1
    assert not rendered("dev-cpu").warnings


def test_gpu_pods_go_where_gpus_are_and_say_before_they_go(job_of: JobOf) -> None:
    for profile in ("single-node-gpu", "multi-node-gpu", "spot-sweep"):
        spec = group(job_of(profile))["template"]["spec"]
        assert spec["nodeSelector"]["nvidia.com/gpu.present"] == "true"
        assert any(one["key"] == GPU for one in spec["tolerations"])
        (shm,) = [one for one in spec["volumes"] if one["name"] == "shm"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
        assert "ephemeral-storage" in spec["containers"][0]["resources"]["limits"]
        command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:3] == ["python", "-m", "crossover.platform.cluster.drain"]
        assert int(command[3]) < spec["terminationGracePeriodSeconds"]


def test_spot_sweeps_scale_and_kueue_turns_it_off(job_of: JobOf) -> None:
    spot = job_of("spot-sweep")
    assert cluster(spot)["autoscalerOptions"]["version"] == "v2"
    assert group(spot)["minReplicas"] < group(spot)["maxReplicas"]
    assert head_template(spot)["spec"]["automountServiceAccountToken"] is True
    queued = job_of("spot-sweep", queue="team")
    assert "enableInTreeAutoscaling" not in cluster(queued)
    assert group(queued)["minReplicas"] == group(queued)["maxReplicas"]
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert (queued["spec"]["suspend"], queued["spec"]["shutdownAfterJobFinishes"]) == (True, True)


def test_long_sweeps_are_submitted_by_the_operator(job_of: JobOf) -> None:
    modes = {profile: job_of(profile)["spec"]["submissionMode"] for profile in PROFILES}
    assert modes == {
        "dev-cpu": "K8sJobMode",
        "single-node-gpu": "K8sJobMode",
        "multi-node-gpu": "HTTPMode",
        "spot-sweep": "HTTPMode",
    }


def test_deadline_is_that_of_the_budget() -> None:
    assert rendered("spot-sweep", "budget.wall_seconds=7200").manifest["spec"]["activeDeadlineSeconds"] == 3 * 3600


# --- names and mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quickstart", "A.study_of-ours", "7b", "x" * 64, "a" * 47, "--", "é"])
def test_job_names_are_taken_by_the_operator(name: str, crds: list[Crd], job_of: JobOf) -> None:
    job = job_of()
    job["metadata"]["name"] = job_name(name)
    assert not lint([Document(job)], crds).findings


def test_close_study_names_make_different_jobs() -> None:
    names = ["a.b", "a-b", "A-b", "a_b", "x" * 63, "x" * 64]
    assert len({job_name(name) for name in names}) == len(names)


def test_without_an_image_a_placeholder_stands_there_with_a_warning() -> None:
    job = render(Rendering("quickstart", "dev-cpu"))
    assert PLACEHOLDER_IMAGE in job.yaml()
    assert any("--image" in warning for warning in job.warnings)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"profile": "spot-swep"}, "did you mean spot-sweep"),
        ({"image": "crossover:latest"}, "pinned by digest"),
        ({"image": f"crossover@sha256:{'a' * 63}"}, "pinned by digest"),
        ({"source": "nowhere"}, "neither a file nor a study"),
        (
            {"overrides": ("resources.workers=16", "schedule.batch_size=16"), "profile": "single-node-gpu"},
            "does not fit profile",
        ),
        ({"profile": "single-node-gpu", "at_once": 9}, "takes 2 machines|take 2 machines"),
    ],
)
def test_mistakes_are_one_clear_error(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(CrossoverError, match=says):
        render(Rendering(**{"source": "quickstart", "profile": "dev-cpu", "image": IMAGE, **asked}))


def test_corpus_that_the_cluster_cannot_see_is_warned_of(tmp_path: Path) -> None:
    (warning,) = rendered("dev-cpu", "data.corpus=corpora/mine").warnings
    assert "/mnt/storage/corpora/mine" in warning
    assert not rendered("dev-cpu", "data.corpus=/mnt/storage/corpora/mine").warnings


def test_a_study_in_an_object_store_has_its_credentials_by_reference(crds: list[Crd]) -> None:
    job = rendered("spot-sweep", "storage=s3://bucket/runs?region=eu-west-1")
    cluster = job.manifest["spec"]["rayClusterSpec"]
    assert job.manifest["spec"]["entrypoint"] == "crossover run /mnt/study/study.yaml --report"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "crossover-object-store", "optional": True}}]
        assert {"name": "CROSSOVER_CACHE", "value": "/tmp/crossover"} in container["env"]
    assert not lint([Document(yaml.safe_load(job.yaml()))], crds, ROOT / "k8s" / "image").findings
