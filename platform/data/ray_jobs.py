"""The jobs of a preparation by Ray Data, on as many machines as the cluster has.

The functions and the folder are those of one machine, so the corpus is the same, byte for byte, and a preparation that
was begun on one machine goes on on a cluster. All machines must see the output's folder, as for a study's storage.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from crossover.trainers.data.sources import UnfinishedError
from crossover.trainers.errors import CorpusError, CrossoverError

__all__ = ["RayData", "ray_executor"]

Job = TypeVar("Job")
Result = TypeVar("Result")


class RayData:
    """Runs each job as a block of a Ray dataset.

    Args:
        num_workers: most jobs at once; None: as many as there are processors.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self._num_workers = num_workers

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Executor`."""
        if not jobs:
            return
        import ray.data
        from ray.data import TaskPoolStrategy

        from crossover.platform.execution.ray_private import end_dataset

        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"job": pickle.dumps(job)} for job in jobs]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        at_once = None if self._num_workers is None else min(self._num_workers, len(items))  # Ray warns of more
        done = dataset.map(partial(_run, function), num_cpus=1, compute=TaskPoolStrategy(at_once))
        try:
            for row in done.iter_rows():
                if row["error"] is not None:
                    raise pickle.loads(row["error"])
                yield pickle.loads(row["result"])
        finally:
            end_dataset(done)


def _run(function: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    """One job. What a user can mend comes back as a value: Ray would wrap it in a traceback."""
    try:
        return {"result": pickle.dumps(function(pickle.loads(row["job"]))), "error": None}
    except CrossoverError as error:
        return {"result": None, "error": pickle.dumps(type(error)(str(error)))}
    except OSError as error:
        return {"result": None, "error": pickle.dumps(OSError(error.errno, error.strerror or str(error)))}


@contextmanager
def ray_executor(num_workers: int | None) -> Iterator[RayData]:
    """An executor on the cluster that RAY_ADDRESS names, or on a Ray of this process alone.

    Raises:
        UnfinishedError: a machine was lost for good, or does not see the folder.
    """
    import ray.data  # noqa: F401 - it sets up its loggers when it is loaded, and the session silences them
    from ray.exceptions import RayError

    from crossover.platform.execution.ray_session import ray_session

    try:
        with ray_session():
            yield RayData(num_workers)
    except RayError as error:
        if isinstance(cause := getattr(error, "cause", None), CorpusError):
            raise cause from None
        raise UnfinishedError(
            f"Ray could not finish the jobs ({str(error).strip().splitlines()[-1]}): see that all machines share the "
            "output's folder, and have the same Crossover"
        ) from None
