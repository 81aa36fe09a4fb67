"""A cluster's job server, Ray's dashboard: reached, known by its version, and asked, with one error for each failure.

Ray's own client tries an address for minutes, lets RAY_ADDRESS replace the address that it is given, and sends the
token only where RAY_AUTH_MODE says so. Here the address is tried first, it is the one that is used, and a token that
is known is sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from crossover.platform.cluster.jobs.study_job import StudyJob, study_job
from crossover.platform.execution.ray_session import environment
from crossover.search_spaces import near
from crossover.trainers.errors import CrossoverError

__all__ = ["JobServer", "JobServerError", "JobServerSilentError", "connect"]

_ADDRESS = re.compile(r"https?://[^/\s]+/?")
_PATIENCE_SECONDS = 10.0
_HOW_TO_GIVE_A_TOKEN = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file with it"
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
_MAX_SHOWN = 400
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class JobServerError(CrossoverError):
    """A job server refuses, or is none."""


class JobServerSilentError(JobServerError):
    """A job server does not answer."""


@dataclass(frozen=True)
class JobServer:
    """The job server of one cluster.

    Args:
        address: its URL.
        client: Ray's client, connected.
        ray_version: of the cluster.
        token_from: where the token that is sent was found; None: there is none, and the cluster asks for none.
    """

    address: str
    client: Any
    ray_version: str
    token_from: str | None = None

    def check_version(self) -> None:
        """Refuses a cluster whose Ray is another one.

        Raises:
            JobServerError: naming both versions.
        """
        if self.ray_version != ray.__version__:
            raise JobServerError(
                f"the cluster at {self.address} runs Ray {self.ray_version}, and this is Ray {ray.__version__}: a "
                "study was tested with one version on both sides; install the cluster's here, or this one there"
            )

    def jobs(self) -> list[StudyJob]:
        """The jobs that run studies, oldest first."""
        with self._asking("its jobs"):
            listed = self.client.list_jobs()
        found = [job for details in listed if (job := study_job(details)) is not None]
        return sorted(found, key=lambda job: (job.started_ms or 0, job.number))

    def job(self, name: str) -> StudyJob:
        """A job by its id, or the newest one of a study by the study's name.

        Raises:
            JobServerError: there is none.
        """
        jobs = self.jobs()
        found = [job for job in jobs if name == job.job_id] or [job for job in jobs if name == job.study]
        if not found:
            known = [word for job in jobs for word in (job.job_id, job.study)]
            hint = near(name, known) or "; `crossover jobs list` names them"
            raise JobServerError(f"the cluster at {self.address} has no job or study {name!r}{hint}")
        return found[-1]

    def submit(self, job_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> bool:
        """Starts a job; False: there is one of this id already."""
        try:
            with self._asking("to start a job"):
                self.client.submit_job(
                    entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env, metadata=metadata
                )
        except JobServerError as error:
            if f"{job_id} already exists" in str(error.__cause__):
                return False
            raise
        return True

    def stop(self, job_id: str) -> bool:
        """Asks a job to end; False: it had ended."""
        with self._asking(f"to stop {job_id}"):
            return bool(self.client.stop_job(job_id))

    def log(self, job_id: str) -> str:
        """What a job has printed so far."""
        with self._asking(f"the log of {job_id}"):
            return str(self.client.get_job_logs(job_id))

    def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job has printed and prints, from its beginning, for as long as the connection lasts."""
        chunks: AsyncIterator[str] = self.client.tail_job_logs(job_id)
        return chunks

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            raise JobServerError(f"the cluster at {self.address} refuses the token when asked {what}") from error
        except OSError as error:  # that of `requests` is one
            raise JobServerSilentError(f"the cluster at {self.address} does not answer when asked {what}") from error
        except RuntimeError as error:
            words = f"the cluster at {self.address} fails when asked {what}: {_last_line(str(error))}"
            raise JobServerError(words) from error


def connect(address: str | None) -> JobServer:
    """The job server at an address, after it has answered.

    Args:
        address: URL of a cluster's dashboard, `http://HOST:8265`.

    Raises:
        JobServerError: it is no such URL, nothing answers there, what answers is no job server, or it refuses the
            token.
    """
    url = _checked(address)
    token, token_from = _token()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    version = _ray_version(url, headers, token_from)
    for name in _CHATTY:  # they tell of every package that is sent
        logging.getLogger(name).setLevel(logging.WARNING)
    with environment({"RAY_API_SERVER_ADDRESS": url}):  # it would replace the address
        client = JobSubmissionClient(url, headers=headers)
    return JobServer(url, client, version, token_from)


def _checked(address: str | None) -> str:
    if address is None:
        raise JobServerError(
            "no cluster is named: give --address http://HOST:8265, the URL of its dashboard, or set "
            "RAY_API_SERVER_ADDRESS to it"
        )
    if _ADDRESS.fullmatch(address) is None:
        raise JobServerError(
            f"address {address!r} is no URL of a dashboard: write http://HOST:8265; ray:// and HOST:6379 are other "
            "doors of a cluster"
        )
    return address.rstrip("/")


def _token() -> tuple[str | None, str | None]:
    """The token and where it was found, in Ray's own order."""
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        return None, None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(given or "~/.ray/auth_token").expanduser()
    try:
        token = file.read_text().strip()
    except OSError as error:
        if given or mode == "token":
            raise JobServerError(
                f"no token: {file} cannot be read ({error.strerror}); {_HOW_TO_GIVE_A_TOKEN}"
            ) from None
        return None, None
    if not token:
        raise JobServerError(f"no token: {file} is empty; {_HOW_TO_GIVE_A_TOKEN}")
    return token, str(file)


def _ray_version(url: str, headers: dict[str, str], token_from: str | None) -> str:
    try:
        request = urllib.request.Request(f"{url}/api/version", headers=headers)
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
            return str(json.loads(answer.read())["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code == _UNAUTHORIZED:
            raise JobServerError(
                f"the cluster at {url} asks for a token, and none is known: {_HOW_TO_GIVE_A_TOKEN}"
            ) from None
        if error.code == _FORBIDDEN:
            raise JobServerError(
                f"the cluster at {url} refuses the token of {token_from}: it is another cluster's, or was changed; "
                f"{_HOW_TO_GIVE_A_TOKEN}"
            ) from None
        raise _no_job_server(url, f"it says {error.code} {error.reason}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, HTTPException) as error:
        raise _no_job_server(url, f"its answer is not understood: {type(error).__name__}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise JobServerSilentError(
            f"nothing answers at {url} ({reason}): is the cluster up, and is this the URL of its dashboard (port "
            "8265)? On Kubernetes: kubectl port-forward service/HEAD-SERVICE 8265"
        ) from None


def _no_job_server(url: str, why: str) -> JobServerError:
    return JobServerError(f"what answers at {url} is no dashboard of Ray's ({why}): give its URL, http://HOST:8265")


def _last_line(text: str) -> str:
    """Ray hands on whole tracebacks."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip(" .'\"")]
    return (lines[-1] if lines else text)[:_MAX_SHOWN]
