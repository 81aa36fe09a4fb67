"""Submits a study as a job: once at a time, and so that the same command again goes on with it.

Two that submit at the same instant both see no job of the study. So jobs of one study are numbered, and the number is
part of the job's id: the cluster takes an id once. The number comes from the same list that showed no running job: from
a later one, the slower of the two would take the next number and run beside the faster.
"""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crossover.platform.cluster.jobs.packing import STUDY_FILE, check_for_a_cluster, code_here, pack_study
from crossover.platform.cluster.jobs.server import JobServer
from crossover.platform.cluster.jobs.study_job import StudyJob, metadata_of
from crossover.platform.study import Study
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import joined

__all__ = ["Submission", "submit_study"]

_STOP_SECONDS = 180
"""After so long a job that was asked to stop is killed; its trials commit a checkpoint and leave before."""

_TRIES = 5


@dataclass(frozen=True)
class Submission:
    """What is submitted.

    Args:
        study: checked; its `storage` is where the cluster keeps it.
        wheel: whose code to send along; None: that of an editable install, if this is one.
        installed: send no code: the cluster runs what it has installed, and it must be this version.
    """

    study: Study
    wheel: Path | None = None
    installed: bool = False

    @property
    def folder(self) -> str:
        """Of the study, as the cluster sees it."""
        return joined(self.study.storage, self.study.name)


def submit_study(server: JobServer, submission: Submission) -> StudyJob:
    """Starts the job of a study, or goes on with the study if its last job has ended.

    Raises:
        CrossoverError: the study runs there already (naming its job), names places of this machine, or the cluster
            refuses.
    """
    check_for_a_cluster(submission.study)
    server.check_version()
    number = _next_number(server, submission)
    with tempfile.TemporaryDirectory(prefix="crossover-job-") as folder:
        code = None if submission.installed or submission.wheel else code_here()
        pack_study(submission.study, Path(folder), submission.wheel, code=code)
        runtime_env = {"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}}
        for _ in range(_TRIES):
            if (job_id := _started(server, submission, runtime_env, number)) is not None:
                return server.job(job_id)
            number = _next_number(server, submission)  # somebody else was faster
    raise CrossoverError(
        f"the cluster at {server.address} knows more jobs of study {submission.study.name} than it lists: it may be "
        "starting up; try again"
    )


def _started(server: JobServer, submission: Submission, runtime_env: dict[str, Any], number: int) -> str | None:
    study, here = submission.study, version("crossover")
    digest = hashlib.sha256(submission.folder.encode()).hexdigest()[:6]
    job_id = f"{study.name}-{digest}-{number}"
    entrypoint = shlex.join(["python", "start.py", here, "run", STUDY_FILE, "--report"])
    metadata = metadata_of(study.name, submission.folder, number, here)
    return job_id if server.submit(job_id, entrypoint, runtime_env, metadata) else None


def _next_number(server: JobServer, submission: Submission) -> int:
    """Of the study's next job; an error while one runs."""
    jobs = [job for job in server.jobs() if job.folder == submission.folder]
    for job in jobs:
        if not job.is_over:
            raise CrossoverError(
                f"study {job.study} is being run in {job.folder} by job {job.job_id} ({job.status}): look on with "
                f"`crossover jobs logs {job.job_id} --follow`, or end it with `crossover jobs stop {job.job_id}`; "
                "submitted after that, it goes on"
            )
    return 1 + max((job.number for job in jobs), default=0)
