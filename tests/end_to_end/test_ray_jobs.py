"""`crossover submit` and `crossover jobs` on a real Ray head with its token on, each command a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from driven_studies import wait_for, write_study

from crossover.platform.analysis import load_study
from crossover.platform.execution.decisions import LegEnded, LegStarted, attempts

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 2
PATIENCE_SECONDS = 400


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trials of some seconds, on a corpus of made-up words."""
    folder = tmp_path_factory.mktemp("study")
    return write_study(
        folder,
        fixed={"schedule.epochs": 400, "checkpoint.poll_seconds": 0.2, "checkpoint.interval_seconds": 0.5},
        axes={"objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"}},
        search={"scheduler": "none"},
        stopping={"rule": "none"},
        storage=str(folder / "runs"),
    )


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{BIN}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", **more}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The dashboard of a head of this test alone, with two processors, that asks for a token."""
    with tempfile.TemporaryDirectory(prefix="cx-jobs", ignore_cleanup_errors=True) as folder:
        ports = {
            name: free_port()
            for name in ("port", "dashboard-port", "dashboard-agent-listen-port", "metrics-export-port")
        }
        command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.2", "--num-cpus=2"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        command += [f"--ray-client-server-port={free_port()}", f"--temp-dir={folder}/ray", "--dashboard-host=127.0.0.1"]
        command += ["--object-store-memory=100000000"]
        settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_raylet_start_wait_time_s": "300"}
        settings |= {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300"}
        log = Path(folder) / "head.log"
        with log.open("wb") as output:
            head = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(Path(folder), **settings),
                start_new_session=True,
            )
        try:
            wait_for(
                lambda: b"Ray runtime started" in log.read_bytes() or head.poll() is not None,
                "the head starts",
                PATIENCE_SECONDS,
            )
            assert head.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{ports['dashboard-port']}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)
            head.wait()


class Commands:
    """Starts `crossover` as a user of that cluster."""

    def __init__(self, address: str, home: Path) -> None:
        self._address, self._home = address, home
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: object, token: str | None = TOKEN, address: str | None = None) -> subprocess.Popen[str]:
        settings = {"RAY_API_SERVER_ADDRESS": address or self._address}
        if token is not None:
            settings["RAY_AUTH_TOKEN"] = token
        started = subprocess.Popen(
            [str(BIN / "crossover"), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(self._home, **settings),
        )
        self._started.append(started)
        return started

    def run(self, *words: object, token: str | None = TOKEN, address: str | None = None) -> tuple[int, str]:
        started = self.start(*words, token=token, address=address)
        output, _ = started.communicate(timeout=PATIENCE_SECONDS)
        return started.returncode, output

    def end(self) -> None:
        for started in self._started:
            if started.poll() is None:
                started.kill()
                started.wait()


@pytest.fixture
def crossover(address: str, tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(address, tmp_path)
    yield commands
    commands.end()


class Cable:
    """Between a client and the dashboard; it can be cut, and another connection may follow."""

    def __init__(self, address: str) -> None:
        self._target = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Every connection at once."""
        ends, self._ends = self._ends, []
        self.cuts += bool(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65_536):
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def study_dir(study_file: Path) -> Path:
    return study_file.parent / "runs" / "words"


def test_nothing_starts_without_the_token_or_where_the_cluster_cannot_run_it(
    crossover: Commands, study_file: Path
) -> None:
    gpus = ("--set", "name=gpus", "--set", "resources.gpus_per_worker=1")
    for words, token, says in (
        ((), None, "asks for a token, and none is known"),
        ((), "f" * 32, "refuses the token of RAY_AUTH_TOKEN"),
        (("--storage", "runs"), TOKEN, "storage runs is a relative path"),
        (gpus, TOKEN, "no machine has what one worker takes"),
    ):
        code, output = crossover.run("submit", study_file, *words, token=token)
        assert code == 2, output
        assert output.count("error: ") == 1, output
        assert says in output, output
        assert "Traceback" not in output, output
    assert not study_dir(study_file).exists()
    assert not list((study_file.parent / "runs").glob("gpus/trials/*")), "a trial was begun"
    code, output = crossover.run("jobs", "list", "--json")
    assert [(job["study"], job["status"], job["exit_code"]) for job in json.loads(output)] == [("gpus", "FAILED", 2)]


def test_a_submitted_study_is_refused_twice_stopped_with_checkpoints_and_goes_on_over_a_broken_line(
    crossover: Commands, study_file: Path, address: str
) -> None:
    both = [crossover.start("submit", study_file, "--no-wait") for _ in range(2)]
    outputs = [one.communicate(timeout=PATIENCE_SECONDS)[0] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], outputs
    refused = next(output for one, output in zip(both, outputs, strict=True) if one.returncode == 2)
    assert "study words is being run in" in refused
    job_id = refused.split(" by job ")[1].split()[0]
    commits = study_dir(study_file) / "trials"
    wait_for(lambda: len(list(commits.glob("*/commits/[0-9]*"))) >= 2, "a checkpoint", PATIENCE_SECONDS)
    code, output = crossover.run("jobs", "stop", "words")
    assert code == 0, output
    assert f"job {job_id} has ended (STOPPED)" in output
    (lines,) = attempts(study_dir(study_file))
    ends = [line.status for line in lines if isinstance(line, LegEnded)]
    assert "interrupted" in ends and set(ends) <= {"interrupted", "ended"}, "its trials were cut off"

    cable = Cable(address)
    follower = crossover.start("submit", study_file, address=cable.address)
    shown: list[str] = []
    reader = threading.Thread(target=lambda: shown.extend(follower.stdout or ()))
    reader.start()
    wait_for(lambda: any("goes on:" in line for line in shown), "the log is followed", PATIENCE_SECONDS)
    cable.cut()
    follower.wait(timeout=PATIENCE_SECONDS)
    reader.join()
    cable.close()
    assert follower.returncode == 0, shown
    assert cable.cuts >= 1
    log = crossover.run("jobs", "logs", "words")[1].splitlines()
    driver = [line for line in shown if not line.startswith(("study words is submitted", "job words"))]
    assert [line.rstrip("\n") for line in driver] == log
    assert (study_dir(study_file) / "report.html").is_file()
    assert load_study(study_dir(study_file)).trials["status"].to_pylist() == ["done", "done"]
    _, second = attempts(study_dir(study_file))
    assert {line.leg for line in second if isinstance(line, LegStarted)} == {2}, "the trials began anew"
    code, output = crossover.run("jobs", "status", "words", "--json")
    status: dict[str, Any] = json.loads(output)
    assert (status["status"], status["number"]) == ("SUCCEEDED", 2)
