"""Jobs of studies for people, and for programs; and what a job's end means for the command that waited for it."""

from __future__ import annotations

import json
import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossover.platform.cluster.jobs.following import follow_job
from crossover.platform.cluster.jobs.server import JobServer
from crossover.platform.cluster.jobs.study_job import StudyJob
from crossover.platform.execution.display import duration

__all__ = ["follow", "print_job", "print_jobs", "print_log", "stop_job"]

_INTERRUPTED, _FAILED = 130, 1
_DONE_CODES = {"SUCCEEDED": 0, "STOPPED": _INTERRUPTED}
_FILE_WIDTH = 180
_LOOK_SECONDS = 0.5


def print_jobs(server: JobServer, *, as_json: bool) -> None:
    """Prints the jobs that run or ran studies."""
    jobs = server.jobs()
    if as_json:
        print(json.dumps([job.as_json() for job in jobs], indent=2))
        return
    if not jobs:
        print(f"no study was submitted to the cluster at {server.address} since it started")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("job", "status", "started", "took", "what that means"):
        table.add_column(name, overflow="fold", no_wrap=name != "what that means")
    for job in jobs:
        table.add_row(*map(Text, (job.job_id, job.status, _started(job), _took(job), job.means)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(table)


def print_job(server: JobServer, name: str, *, as_json: bool) -> None:
    """Prints where a job stands."""
    job = server.job(name)
    if as_json:
        print(json.dumps(job.as_json(), indent=2))
        return
    print(f"{job.job_id}: {job.status}, started {_started(job)}, took {_took(job)}")
    print(f"  {job.means}")
    print(f"  study {job.study} in {job.folder}, submitted by Crossover {job.version}")


def print_log(server: JobServer, name: str, *, following: bool) -> int:
    """Prints what a job has printed, and if wanted what it prints from now on; gives the exit code."""
    job = server.job(name)
    if following:
        return follow(server, job)
    sys.stdout.write(server.log(job.job_id))
    return 0


def follow(server: JobServer, job: StudyJob) -> int:
    """Follows a job to its end. Ctrl-C ends the following, never the job.

    Returns:
        The exit code of its driver; 130 if it was stopped, lost, or runs on.
    """
    try:
        ended = follow_job(server, job.job_id, _write)
    except KeyboardInterrupt:
        words = f"job {job.job_id} runs on: `crossover jobs logs {job.job_id} --follow` looks on again"
        sys.stderr.write(f"\n{words}, `crossover jobs stop {job.job_id}` ends it\n")
        return _INTERRUPTED
    sys.stderr.write(f"job {ended.job_id} has ended ({ended.status}): {ended.means}\n")
    lost = _INTERRUPTED if ended.exit_code is None else ended.exit_code or _FAILED
    return _DONE_CODES.get(ended.status, lost)


def stop_job(server: JobServer, name: str, *, wait: bool) -> None:
    """Asks a job to end, and waits until its trials have left."""
    job = server.job(name)
    if job.is_over or not server.stop(job.job_id):
        print(f"job {job.job_id} has ended already ({job.status})")
        return
    print(f"job {job.job_id} is asked to stop: its trials leave with a checkpoint")
    while wait and not job.is_over:
        time.sleep(_LOOK_SECONDS)
        job = server.job(job.job_id)
    if wait:
        print(f"job {job.job_id} has ended ({job.status}): {job.means}")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _started(job: StudyJob) -> str:
    started = job.as_json()["started"]
    return "-" if started is None else str(started)


def _took(job: StudyJob) -> str:
    if job.started_ms is None:
        return "-"
    return duration((job.ended_ms or int(time.time() * 1000)) / 1000 - job.started_ms / 1000)
