"""Follows a job: what it prints, as it prints it, until it has ended.

Ray's stream of a log may break, and may also end or fall silent while the job runs. So the job's status is asked beside
it, and a new stream, which begins anew, goes on after the characters that were already shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from crossover.platform.cluster.jobs.server import JobServer, JobServerError, JobServerSilentError
from crossover.platform.cluster.jobs.study_job import StudyJob

__all__ = ["follow_job"]

_ASK_SECONDS = 2.0
_PATIENCE_SECONDS = 300.0


def follow_job(
    server: JobServer,
    job_id: str,
    write: Callable[[str], None],
    *,
    ask_seconds: float = _ASK_SECONDS,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> StudyJob:
    """Writes what a job prints, from its beginning until it has ended.

    Args:
        server: of the cluster.
        job_id: of the job.
        write: takes what was printed, as it comes.
        ask_seconds: how often the status is asked, and how long after a broken stream another is opened.
        patience_seconds: how long a server that does not answer is asked again.

    Returns:
        The job, ended.

    Raises:
        JobServerError: the server does not answer for that long; the job may run on.
    """
    return asyncio.run(_Follower(server, job_id, write, ask_seconds, patience_seconds).follow())


@dataclass
class _Follower:
    server: JobServer
    job_id: str
    write: Callable[[str], None]
    ask_seconds: float
    patience_seconds: float
    _shown: int = 0
    _answered_at: float = field(default_factory=time.monotonic)

    async def follow(self) -> StudyJob:
        stream: asyncio.Task[None] | None = None
        try:
            while True:
                if stream is None or stream.done():
                    stream = asyncio.create_task(self._stream())
                await asyncio.wait({stream}, timeout=self.ask_seconds)
                job = await self._job()
                if job is not None and job.is_over:
                    break
                if stream.done():
                    await asyncio.sleep(self.ask_seconds)
        finally:
            if stream is not None:
                stream.cancel()
                await asyncio.wait({stream})
        self._show_the_rest()
        return job

    async def _stream(self) -> None:
        """One connection, for as long as it lasts; however it ends, the status says whether that was the end."""
        passed = 0
        with contextlib.suppress(Exception):  # those of three libraries
            async for chunk in self.server.tail(self.job_id):
                new = chunk[max(0, self._shown - passed) :]
                passed += len(chunk)
                self._shown = max(self._shown, passed)
                if new:
                    self.write(new)

    async def _job(self) -> StudyJob | None:
        """The job as the server has it; None: it does not answer now."""
        try:
            job = await asyncio.to_thread(self.server.job, self.job_id)
        except JobServerSilentError as error:
            if time.monotonic() - self._answered_at < self.patience_seconds:
                return None
            raise JobServerError(
                f"{error}, for {self.patience_seconds:g} s. If the cluster is lost, submit the study again, there or "
                "to a new one: it goes on from its storage"
            ) from None
        self._answered_at = time.monotonic()
        return job

    def _show_the_rest(self) -> None:
        """What was printed while no stream was open."""
        with contextlib.suppress(JobServerError):  # the machine that has the log may be gone
            rest = self.server.log(self.job_id)[self._shown :]
            if rest:
                self.write(rest)
