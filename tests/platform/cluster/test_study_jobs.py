"""Jobs of studies over a client that keeps its cluster in memory: submitted once, numbered, followed, stopped."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml
from ray.job_submission import JobStatus

from crossover.platform.cluster.jobs import start, submitting
from crossover.platform.cluster.jobs.following import follow_job
from crossover.platform.cluster.jobs.packing import pack_study
from crossover.platform.cluster.jobs.reporting import follow, print_job, print_jobs, stop_job
from crossover.platform.cluster.jobs.server import JobServer
from crossover.platform.cluster.jobs.submitting import Submission, submit_study
from crossover.platform.study import read_study
from crossover.trainers.errors import CrossoverError

pytestmark = pytest.mark.integration

MakeStudy = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class FakeClient:
    """A cluster: jobs by id, the log of each, and what becomes of each stream of it."""

    jobs: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    streams: list[list[Any]] = field(default_factory=list)
    silent: int = 0
    packed: dict[str, bytes] = field(default_factory=dict)
    faster: Callable[[], None] | None = None

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: Any, metadata: dict[str, str]) -> str:
        if self.faster is not None:
            faster, self.faster = self.faster, None
            faster()
        if submission_id in self.jobs:
            raise RuntimeError(f"Request failed with status code 500: ValueError: {submission_id} already exists. Use")
        folder = Path(runtime_env["working_dir"])
        self.packed = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.jobs[submission_id] = SimpleNamespace(
            submission_id=submission_id,
            status=JobStatus.RUNNING,
            entrypoint=entrypoint,
            message="",
            start_time=1000 + len(self.jobs),
            end_time=None,
            metadata=metadata,
            driver_exit_code=None,
        )
        return submission_id

    def end(self, job_id: str, status: JobStatus, code: int | None, message: str = "") -> None:
        """As if its driver had ended."""
        self.jobs[job_id].status, self.jobs[job_id].driver_exit_code = status, code
        self.jobs[job_id].message, self.jobs[job_id].end_time = message, 61_000

    def list_jobs(self) -> list[Any]:
        if self.silent:
            self.silent -= 1
            raise ConnectionError("gone")
        return [SimpleNamespace(submission_id="raysubmit_x", metadata=None), *self.jobs.values()]

    def stop_job(self, job_id: str) -> bool:
        self.end(job_id, JobStatus.STOPPED, None)
        return True

    def get_job_logs(self, job_id: str) -> str:
        return self.logs[job_id]

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for event in self.streams.pop(0) if self.streams else []:
            if callable(event):
                event()
            elif isinstance(event, Exception):
                raise event
            else:
                yield event


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def server(client: FakeClient) -> JobServer:
    return JobServer("http://127.0.0.1:8265", client, ray.__version__, "RAY_AUTH_TOKEN")


@pytest.fixture
def study(tiny_study: MakeStudy) -> Any:
    return tiny_study(storage="/shared/runs")


def submitted(server: JobServer, study: Any) -> str:
    return submit_study(server, Submission(study, installed=True)).job_id


def test_a_submitted_study_is_read_back_whole_and_starts_by_one_simple_command(
    server: JobServer, client: FakeClient, study: Any, tmp_path: Path
) -> None:
    job = submit_study(server, Submission(study, installed=True))
    assert (job.study, job.folder, job.number, job.status) == ("tiny", "/shared/runs/tiny", 1, "RUNNING")
    assert sorted(client.packed) == ["start.py", "study.yaml"]
    (tmp_path / "study.yaml").write_bytes(client.packed["study.yaml"])
    assert read_study(tmp_path / "study.yaml") == study
    assert client.jobs[job.job_id].entrypoint == f"python start.py {version('crossover')} run study.yaml --report"


def test_a_study_that_runs_is_not_submitted_again_and_one_that_has_ended_goes_on(
    server: JobServer, client: FakeClient, study: Any, tiny_study: MakeStudy
) -> None:
    first = submitted(server, study)
    with pytest.raises(CrossoverError, match=rf"is being run in /shared/runs/tiny by job {first} \(RUNNING\)"):
        submitted(server, study)
    assert submitted(server, tiny_study(storage="/elsewhere")) != first
    client.end(first, JobStatus.FAILED, 1)
    second = submitted(server, study)
    assert (first[-2:], second[-2:]) == ("-1", "-2")
    assert server.job("tiny").job_id == second


def test_a_study_in_an_object_store_is_known_by_its_place_there(server: JobServer, tiny_study: MakeStudy) -> None:
    job = submit_study(server, Submission(tiny_study(storage="s3://bucket/runs?region=here"), installed=True))
    assert job.folder == "s3://bucket/runs/tiny?region=here"


def test_of_two_that_submit_at_one_instant_one_is_refused(server: JobServer, client: FakeClient, study: Any) -> None:
    client.faster = lambda: submitted(server, study)
    with pytest.raises(CrossoverError, match="is being run in /shared/runs/tiny by job"):
        submitted(server, study)
    assert len(client.jobs) == 1


def test_who_packs_while_another_submits_is_refused(
    server: JobServer, client: FakeClient, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*given: Any, **named: Any) -> None:
        monkeypatch.setattr(submitting, "pack_study", pack_study)
        submitted(server, study)
        pack_study(*given, **named)

    monkeypatch.setattr(submitting, "pack_study", slowly)
    with pytest.raises(CrossoverError, match="is being run in /shared/runs/tiny by job"):
        submitted(server, study)
    assert len(client.jobs) == 1


def test_a_job_that_came_and_ended_meanwhile_is_counted(server: JobServer, client: FakeClient, study: Any) -> None:
    client.faster = lambda: client.end(submitted(server, study), JobStatus.SUCCEEDED, 0)
    assert server.job(submitted(server, study)).number > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "./runs"}, "storage ./runs is a relative path"),
        ({"data__corpus": "corpora/mine"}, "data.corpus = corpora/mine is a path of this machine"),
        ({"data__corpus": "0.5 * ./mine + 0.5 * python-stdlib"}, "data.corpus = ./mine is a path"),
        (
            {"search__sampler": "tpe", "search__warm_start": "runs/earlier"},
            "search.warm_start = runs/earlier is a path of this machine",
        ),
        ({"fixed__evaluation__tasks": "tasks.jsonl"}, "evaluation.tasks = tasks.jsonl is a path of this machine"),
    ],
)
def test_a_study_that_names_places_of_this_machine_is_refused(
    server: JobServer, client: FakeClient, tiny_study: MakeStudy, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CrossoverError, match=message):
        submitted(server, tiny_study(**{"storage": "/shared/runs", **changes}))
    assert not client.jobs


def test_an_editable_install_sends_its_own_code_which_runs_there(
    server: JobServer, client: FakeClient, study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "code_here", lambda: ROOT)
    submit_study(server, Submission(study))
    for name, content in client.packed.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    code = (
        "import runpy, sys, crossover.platform.cli as cli, crossover.trainers.loop as loop\n"
        f"assert all(module.__file__.startswith({str(tmp_path)!r}) for module in (cli, loop)), cli.__file__\n"
        f"sys.argv = ['start.py', {version('crossover')!r}, '--version']\n"
        "runpy.run_path('start.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"crossover {version('crossover')}\n"), done.stderr


def test_a_wheel_is_sent_unpacked_and_another_one_is_refused(study: Any, tmp_path: Path) -> None:
    names = ["crossover/platform/cli.py", "crossover/trainers/loop.py"]
    names.append(f"crossover-{version('crossover')}.dist-info/METADATA")
    (tmp_path / "job").mkdir()
    for missing in (*names, None):
        with zipfile.ZipFile(tmp_path / "own.whl", "w") as wheel:
            for name in names:
                if name != missing:
                    wheel.writestr(name, "# code")
        if missing is not None:
            with pytest.raises(CrossoverError, match=f"no wheel of Crossover .* lacks {missing}"):
                pack_study(study, tmp_path / "job", tmp_path / "own.whl")
    pack_study(study, tmp_path / "job", tmp_path / "own.whl")
    assert all((tmp_path / "job" / name).is_file() for name in names)
    (tmp_path / "none.whl").write_text("no zip")
    with pytest.raises(CrossoverError, match=r"none\.whl cannot be read"):
        pack_study(study, tmp_path / "job", tmp_path / "none.whl")


def test_a_cluster_with_another_version_or_none_says_so_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "version", lambda name: "0.0.1")
    with pytest.raises(SystemExit) as ended:
        start.main(["0.0.2", "run", "study.yaml"])
    assert ended.value.code == 2
    assert "submitted by Crossover 0.0.2, and this cluster has 0.0.1" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(start, "version", _no_package)
    assert "has no Crossover" in (start.mismatch("0.0.2") or "")


def _no_package(name: str) -> str:
    raise start.PackageNotFoundError(name)


def test_the_starting_file_imports_the_standard_library_alone() -> None:
    spec = importlib.util.spec_from_file_location("alone", start.__file__)
    assert spec is not None
    code = f"import sys\nsys.modules.update(dict.fromkeys(('crossover', 'ray')))\nexec(open({start.__file__!r}).read())"
    done = subprocess.run([sys.executable, "-c", code.replace("exec(", "__name__='x';exec(")], capture_output=True)
    assert done.returncode == 0, done.stderr


LOG = "one\ntwo\nthree\nfour\n"


@pytest.fixture
def running(server: JobServer, client: FakeClient, study: Any) -> Iterator[str]:
    job_id = submitted(server, study)
    client.logs[job_id] = LOG
    yield job_id


@pytest.mark.parametrize(
    "streams",
    [
        [["one\ntwo\n", "three\nfour\n", "END"]],
        [["one\nt", RuntimeError("1006")], ["one\ntwo\n", "three\n", ConnectionError()], [LOG, "END"]],
        [["one\n"], [], [ValueError("strange")], ["END"]],
        [["one\ntwo\nthree\n", "END", RuntimeError("1006")]],
    ],
)
def test_every_line_is_shown_once_whatever_becomes_of_the_stream(
    server: JobServer, client: FakeClient, running: str, streams: list[list[Any]]
) -> None:
    def end() -> None:
        client.end(running, JobStatus.SUCCEEDED, 0)

    client.streams = [[end if event == "END" else event for event in stream] for stream in streams]
    shown: list[str] = []
    job = follow_job(server, running, shown.append, ask_seconds=0.01)
    assert "".join(shown) == LOG
    assert job.status == "SUCCEEDED"


def test_a_server_that_is_silent_for_a_while_is_asked_again_and_given_up_in_the_end(
    server: JobServer, client: FakeClient, running: str
) -> None:
    client.silent = 3
    client.streams = [[ConnectionError()], [ConnectionError()], [lambda: client.end(running, JobStatus.SUCCEEDED, 0)]]
    assert follow_job(server, running, lambda text: None, ask_seconds=0.01).status == "SUCCEEDED"
    client.silent = 10**9
    with pytest.raises(CrossoverError, match=r"does not answer .* If the cluster is lost, submit the study again"):
        follow_job(server, running, lambda text: None, ask_seconds=0.01, patience_seconds=0.05)


@pytest.mark.parametrize(
    ("status", "exit_code", "code", "says"),
    [
        (JobStatus.SUCCEEDED, 0, 0, "has its report"),
        (JobStatus.FAILED, 2, 2, "was refused"),
        (JobStatus.FAILED, 3, 3, "no trial has a usable result"),
        (JobStatus.FAILED, 130, 130, "it was interrupted"),
        (JobStatus.FAILED, 1, 1, "failed with exit code 1"),
        (JobStatus.FAILED, None, 130, "the cluster lost the driver (node died)"),
        (JobStatus.STOPPED, None, 130, "it was stopped"),
    ],
)
def test_following_ends_as_the_driver_did(
    server: JobServer,
    client: FakeClient,
    running: str,
    capsys: pytest.CaptureFixture[str],
    status: JobStatus,
    exit_code: int | None,
    code: int,
    says: str,
) -> None:
    client.end(running, status, exit_code, "node died.\nmore")
    assert follow(server, server.job(running)) == code
    captured = capsys.readouterr()
    assert captured.out == LOG
    assert says in captured.err


def test_jobs_are_listed_and_named_by_id_or_study(
    server: JobServer, client: FakeClient, running: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_jobs(server, as_json=False)
    assert running in capsys.readouterr().out
    client.end(running, JobStatus.FAILED, 2)
    print_jobs(server, as_json=True)
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["job_id"], listed["exit_code"], listed["is_over"]) == (running, 2, True)
    assert listed["ended"] == "1970-01-01T00:01:01+00:00"
    print_job(server, "tiny", as_json=False)
    assert f"{running}: FAILED, started 1970-01-01T00:00:01+00:00, took 60 s" in capsys.readouterr().out
    with pytest.raises(CrossoverError, match=r"has no job or study 'tny'.*tiny"):
        server.job("tny")


def test_a_job_is_stopped_once(
    server: JobServer, client: FakeClient, running: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_job(server, "tiny", wait=True)
    assert "has ended (STOPPED): it was stopped; submitted again, it goes on" in capsys.readouterr().out
    stop_job(server, "tiny", wait=True)
    assert f"job {running} has ended already" in capsys.readouterr().out


def test_the_packed_study_holds_what_was_laid_over_it(tmp_path: Path) -> None:
    study = read_study("quickstart", ["storage=/shared", "search.trials=3", "name=other"])
    pack_study(study, tmp_path)
    packed = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert (packed["name"], packed["storage"], packed["search"]["trials"]) == ("other", "/shared", 3)
