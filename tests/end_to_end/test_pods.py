"""The rendered RayJob on a cluster of processes: killed workers and heads, retried submitters, and no token."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_studies import NOT_COMPARED, wait_for
from kuberay_pods import PodCluster
from made_words import write_words

from crossover.platform.analysis import load_study
from crossover.platform.cluster.rayjob import Rendering, render
from crossover.platform.execution.decisions import LegEnded, LegStarted, Suggested, attempts, read_decisions

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, as the submitter's pod does"),
]

STUDY_SECONDS = 400
IMAGE = f"registry.example.com/crossover@sha256:{'ab' * 32}"

Start = Callable[[Path], PodCluster]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of made-up words."""
    from crossover.trainers.data import prepare_corpus

    folder = tmp_path_factory.mktemp("corpus")
    prepare_corpus([write_words(folder / "text")], folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A RayJob of two pods for two trials of two workers each, one after the other."""
    document = {
        "name": "pods",
        "data": {"corpus": "/mnt/storage/corpus", "unique_tokens": 4096, "sequence_length": 32},
        "fixed": {
            "model.num_layers": 1,
            "model.width": 32,
            "schedule.epochs": 40,
            "schedule.warmup_steps": 2,
            "evaluation.ratio": 1.5,
            "evaluation.validation_windows": 16,
            "evaluation.test_windows": 16,
            "execution.precision": "float32",
            "execution.threads": 1,
            "checkpoint.poll_seconds": 0.2,
            "checkpoint.interval_seconds": 1.0,
            "checkpoint.min_interval_seconds": 0.2,
        },
        "axes": {"objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"}},
        "search": {"scheduler": "none"},
        "stopping": {"rule": "none"},
        "resources": {"workers": 2, "cpus_per_worker": 4},  # a pod of this profile has four
    }
    file = tmp_path_factory.mktemp("study") / "pods.yaml"
    file.write_text(yaml.safe_dump(document))
    job = render(Rendering(str(file), "dev-cpu", IMAGE, at_once=1)).manifest
    assert [group["replicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]] == [2]
    return job


@pytest.fixture
def storage(tmp_path: Path, corpus: Path) -> Path:
    """What the pods share: it has the corpus."""
    folder = tmp_path / "storage"
    shutil.copytree(corpus, folder / "corpus")
    return folder


@pytest.fixture
def start(manifest: dict[str, Any]) -> Iterator[Start]:
    """Starts clusters on a storage, and ends them."""
    started: list[PodCluster] = []
    with tempfile.TemporaryDirectory(prefix="cx-pods", ignore_cleanup_errors=True) as folder:

        def start_one(storage: Path) -> PodCluster:
            number = len(started)
            started.append(PodCluster(manifest, storage, Path(folder) / str(number), number))
            started[-1].start()
            return started[-1]

        yield start_one
        for cluster in started:
            cluster.end()


def table(storage: Path) -> list[dict[str, Any]]:
    """The final table of trials, without what the clock and the working tree say."""
    trials = load_study(storage / "runs" / "pods").trials
    kept = [name for name in trials.column_names if name not in NOT_COMPARED]
    return sorted(trials.select(kept).to_pylist(), key=lambda row: str(row["trial_id"]))


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """The table of the first test, which the others repeat."""
    return {}


def wait_until_under_way(storage: Path) -> None:
    """The first trial has checkpoints, and much before it."""
    trials = storage / "runs" / "pods" / "trials"
    wait_for(lambda: len(list(trials.glob("*/commits/[0-9]*"))) >= 2, "a checkpoint", STUDY_SECONDS)
    assert not list(trials.glob("*/end.json")), "it is too short to be disturbed"


def assert_finished(cluster: PodCluster, job_id: str, storage: Path, undisturbed: dict[str, Any]) -> None:
    wait_for(lambda: cluster.job_status(job_id) in ("SUCCEEDED", "FAILED"), "the job ends", STUDY_SECONDS)
    assert cluster.job_status(job_id) == "SUCCEEDED"
    assert (storage / "runs" / "pods" / "report.html").is_file()
    found = table(storage)
    assert [row["status"] for row in found] == ["done", "done"]
    assert found == undisturbed.setdefault("table", found)
    made = [line.trial_id for line in read_decisions(storage / "runs" / "pods") if isinstance(line, Suggested)]
    assert sorted(made) == sorted(row["trial_id"] for row in found)


def test_two_submitters_at_once_and_a_retried_one_run_the_study_once_and_none_without_the_token(
    start: Start, storage: Path, undisturbed: dict[str, Any]
) -> None:
    cluster = start(storage)
    without = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    output, _ = cluster.submit("stranger", without).communicate(timeout=STUDY_SECONDS)
    assert "missing authentication token" in output.lower(), output
    assert cluster.job_status("stranger") == ""
    both = [cluster.submit("pods-1") for _ in range(2)]
    outputs = [one.communicate(timeout=STUDY_SECONDS)[0] for one in both]
    assert_finished(cluster, "pods-1", storage, undisturbed)
    again = cluster.submit("pods-1")  # as the Job's controller does after a failed pod
    output, _ = again.communicate(timeout=STUDY_SECONDS)
    assert "is finished" in output, (output, outputs)
    assert len(attempts(storage / "runs" / "pods")) == 1


def test_killed_worker_is_replaced_and_the_trial_goes_on(
    start: Start, storage: Path, undisturbed: dict[str, Any]
) -> None:
    cluster = start(storage)
    cluster.submit("pods-2")
    wait_until_under_way(storage)
    cluster.kill("worker-0")
    cluster.start_worker(2)
    assert_finished(cluster, "pods-2", storage, undisturbed)


def test_drained_worker_leaves_and_the_trial_goes_on(start: Start, storage: Path, undisturbed: dict[str, Any]) -> None:
    cluster = start(storage)
    cluster.submit("pods-3")
    wait_until_under_way(storage)
    cluster.drain_and_kill("worker-1")
    cluster.start_worker(2)
    assert_finished(cluster, "pods-3", storage, undisturbed)
    ends = [line.status for line in read_decisions(storage / "runs" / "pods") if isinstance(line, LegEnded)]
    assert sorted(ends) == ["ended", "ended", "interrupted"], "it did not leave with a checkpoint"


def test_new_cluster_with_a_new_job_id_resumes_what_a_killed_head_left(
    start: Start, storage: Path, undisturbed: dict[str, Any]
) -> None:
    first = start(storage)
    first.submit("pods-4")
    wait_until_under_way(storage)
    first.kill("head")  # its workers live on for a minute, and still have the trial
    second = start(storage)
    second.submit("pods-5")
    assert_finished(second, "pods-5", storage, undisturbed)
    last = attempts(storage / "runs" / "pods")
    assert len(last) == 2
    assert next(line.leg for line in last[1] if isinstance(line, LegStarted)) > 1, "the trial began anew"
