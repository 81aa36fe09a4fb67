"""A RayCluster without Kubernetes: every pod of a rendered RayJob is a process tree of its own on this machine.

Where the kernel allows it, a pod has its own processes and mounts, as a container has: /mnt/storage is the shared
folder, /mnt/study/study.yaml is what the downward API would show, and the rendered entrypoint runs as it stands.
Elsewhere a pod is a process tree alone, and paths are rewritten. Pods share the network: cluster n
has 127.0.n.2, 3, and so on.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from driven_studies import wait_for

from crossover.platform.cluster.pods import STORAGE_FOLDER, STUDY_ANNOTATION, STUDY_FILE

__all__ = ["PodCluster", "namespaces_are_allowed"]

BIN = Path(sys.executable).parent
START_SECONDS = 240
WORKER_PORTS = 1_500  # of each pod: Ray's own range would be every pod's, and they share one network
_UNSHARE = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]


def namespaces_are_allowed() -> bool:
    """Whether this user may give a process its own processes and mounts."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


class PodCluster:
    """The cluster of one RayJob.

    Args:
        manifest: a rendered RayJob.
        storage: the folder that all pods share.
        folder: of this cluster alone, with a short path.
        number: of this cluster, from 0.
    """

    def __init__(self, manifest: dict[str, Any], storage: Path, folder: Path, number: int) -> None:
        self._job, self._cluster = manifest["spec"], manifest["spec"]["rayClusterSpec"]
        self._storage, self._folder, self._number = storage, folder, number
        self._isolated = namespaces_are_allowed()
        self._token = secrets.token_hex(16)
        self._port, self._dashboard = _free_port(), _free_port()
        self._pods: dict[str, subprocess.Popen[bytes]] = {}
        self._others: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True)

    # --- pods ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The head, and then the workers one by one, as they would come."""
        self.start_head()
        (group,) = self._cluster["workerGroupSpecs"]
        for number in range(group["replicas"]):
            self.start_worker(number)

    def start_head(self) -> None:
        """With the operator's arguments, but for addresses and ports."""
        group = self._cluster["headGroupSpec"]
        arguments = {
            **group["rayStartParams"],
            "dashboard-host": "127.0.0.1",
            "dashboard-port": self._dashboard,
            "ray-client-server-port": _free_port(),
            "port": self._port,
        }
        self._start("head", ["--head", *self._options(arguments, 0)], group["template"])

    def start_worker(self, number: int) -> None:
        """Worker `number`, from 0; also one that takes the place of a lost one."""
        (group,) = self._cluster["workerGroupSpecs"]
        arguments = {**group["rayStartParams"], "address": self.address}
        self._start(
            f"worker-{number}", self._options(arguments, 1 + number), group["template"], {"RAY_ADDRESS": self.address}
        )

    def kill(self, name: str) -> None:
        """The whole pod at once, as when a machine fails."""
        pod = self._pods.pop(name)
        if pod.poll() is not None:  # it has given up by itself, without its head
            return
        processes = psutil.Process(pod.pid).children(recursive=True)
        os.killpg(pod.pid, signal.SIGKILL)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        pod.wait()

    def drain_and_kill(self, name: str) -> None:
        """What a kubelet does: the pod's own preStop hook, in the pod, and then the end."""
        (group,) = self._cluster["workerGroupSpecs"]
        hook = group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        command = [str(BIN / hook[0]), *hook[1:]]
        if self._isolated:
            inside = Path(f"/proc/{self._pods[name].pid}/task/{self._pods[name].pid}/children").read_text().split()[0]
            command = ["nsenter", "--target", inside, "--pid", "--mount", *command]
        done = subprocess.run(command, env=self._environment({"RAY_ADDRESS": self.address}), timeout=120, check=False)
        if done.returncode:  # the hook ends with its pod, where Ray has left the pod before
            wait_for(lambda: self._pods[name].poll() is not None, f"the pod ends, or its preStop hook: {done}", 10)
        self.kill(name)

    def end(self) -> None:
        """Everything that was started here."""
        for other in self._others:
            if other.poll() is None:
                os.killpg(other.pid, signal.SIGKILL)
                other.wait()
        for name in [*self._pods]:
            self.kill(name)

    @property
    def address(self) -> str:
        """Of the head's GCS."""
        return f"{self._ip(0)}:{self._port}"

    def _ip(self, pod: int) -> str:
        return f"127.0.{self._number}.{2 + pod}"

    def _options(self, arguments: dict[str, Any], pod: int) -> list[str]:
        first = 10_100 + WORKER_PORTS * (5 * self._number + pod)
        own = {
            "node-ip-address": self._ip(pod),
            "min-worker-port": first,
            "max-worker-port": first + WORKER_PORTS - 1,
            "object-store-memory": 100_000_000,
            "metrics-export-port": _free_port(),
            "dashboard-agent-listen-port": _free_port(),
        }
        return ["--block", *(f"--{name}={value}" for name, value in {**arguments, **own}.items())]

    def _start(
        self, name: str, arguments: list[str], template: dict[str, Any], more: dict[str, str] | None = None
    ) -> None:
        container = template["spec"]["containers"][0]
        given = {item["name"]: self._path(item["value"]) for item in container["env"]}
        temporary = "/tmp/ray" if self._isolated else str(self._folder / name)
        ray = shlex.join([str(BIN / "ray"), "start", *arguments, f"--temp-dir={temporary}"])
        study = template["metadata"].get("annotations", {}).get(STUDY_ANNOTATION)
        if study is not None:
            (self._folder / "study.yaml").write_text(study)
        script = f"ulimit -n 65536 2>/dev/null; exec {ray}"
        command = ["bash", "-c", script]
        if self._isolated:
            command = [*_UNSHARE, "bash", "-c", f"{self._mounts()}; {script}"]
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            self._pods[name] = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment({**given, **(more or {})}),
                start_new_session=True,
            )
        pod = self._pods[name]
        wait_for(lambda: b"Ray runtime started" in log.read_bytes() or pod.poll() is not None, f"pod {name} starts")
        assert pod.poll() is None, log.read_text()

    def _mounts(self) -> str:
        storage, study = shlex.quote(str(self._storage)), shlex.quote(str(self._folder))
        return (
            "set -e; mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray; mount -t tmpfs none /mnt; "
            f"mkdir {STORAGE_FOLDER} {Path(STUDY_FILE).parent}; mount --bind {storage} {STORAGE_FOLDER}; "
            f"mount --bind {study} {Path(STUDY_FILE).parent}; set +e"
        )

    def _path(self, text: str) -> str:
        """Text with the paths of pods, as it is to be read here."""
        if self._isolated:
            return text
        return text.replace(STORAGE_FOLDER, str(self._storage)).replace(STUDY_FILE, str(self._folder / "study.yaml"))

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **kept,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "RAY_raylet_start_wait_time_s": str(START_SECONDS),
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_SECONDS),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            **more,
        }

    # --- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, job_id: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """A submitter's pod in K8sJobMode: the operator's shell command around the manifest's entrypoint."""
        url, entrypoint = f"http://127.0.0.1:{self._dashboard}", self._path(self._job["entrypoint"])
        there = f"--address {url}"
        command = (
            f"until curl -sf {url}/api/gcs_healthz >/dev/null; do sleep 1; done; "
            f"if ! ray job status {there} {job_id} >/dev/null 2>&1; "
            f"then ray job submit {there} --no-wait --submission-id {job_id} -- {entrypoint}; fi; "
            f"ray job logs {there} --follow {job_id}"
        )
        submitter = subprocess.Popen(
            ["bash", "-ce", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(environment or {}),
            start_new_session=True,
        )
        self._others.append(submitter)
        return submitter

    def job_status(self, job_id: str) -> str:
        """What the dashboard says of a job, as the operator asks it; the submitter's exit code does not tell it."""
        url, headers = (
            f"http://127.0.0.1:{self._dashboard}/api/jobs/{job_id}",
            {"Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return str(json.loads(answer.read())["status"])
        except urllib.error.HTTPError as error:
            assert error.code == 404, error
            return ""
