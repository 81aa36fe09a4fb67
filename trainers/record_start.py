"""How a trial's record begins: one writer at a time, and in the folder of no other trial."""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from crossover.trainers.durable import TEMPORARY, durable_file, writing
from crossover.trainers.errors import RecordError
from crossover.trainers.record import RecordPaths, TrialRecord, WindowFacts
from crossover.trainers.rows import TrialFacts

__all__ = ["begin_record", "find_begun", "lock_record", "write_window_facts"]

_LOCK_PATIENCE_SECONDS = 10.0
_SIGHT_PATIENCE_SECONDS = 30.0
_MAX_CHANGES = 4


def lock_record(paths: RecordPaths, patience_seconds: float = _LOCK_PATIENCE_SECONDS) -> int:
    """Makes the folder if need be, and keeps other writers out until the descriptor that this gives is closed.

    Args:
        paths: of the trial.
        patience_seconds: how long another writer is waited for.

    Raises:
        RecordError: it cannot be made, or is being written by another process.
    """
    root = paths.root
    if root.exists() and not root.is_dir():
        raise RecordError(f"{root} is a file, and a run is recorded in a folder: name another one")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY)
    deadline = time.monotonic() + patience_seconds
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise RecordError(f"{root} is being written by another process: wait for it, or stop it first")
        time.sleep(0.1)
    return descriptor


def begin_record(paths: RecordPaths, facts: TrialFacts) -> None:
    """Writes `trial.json`, or finds that it is there already.

    Raises:
        RecordError: the folder is another trial's, of other data, or holds something else.
    """
    existing = TrialRecord(paths.root).facts()
    if existing is None:
        _refuse_other_things(paths)
        with writing(paths.facts):
            durable_file(paths.facts, facts.model_dump_json(indent=2).encode())
        return
    for name in ("schema_version", "trial_id", "data_hash", "subset_hash"):
        was, is_now = getattr(existing, name), getattr(facts, name)
        if was != is_now:
            changed = ", ".join(islice(_changed(existing.config, facts.config), _MAX_CHANGES))
            raise RecordError(
                f"{paths.root} is the record of another trial ({name} {was}, this one has {is_now}"
                f"{changed and f'; {changed}'}): give this run another folder"
            )


def find_begun(paths: RecordPaths, rank: int) -> None:
    """Waits until worker `rank` sees what worker 0 began; a network's file system may take its time.

    Raises:
        RecordError: the workers do not share the folder.
    """
    deadline = time.monotonic() + _SIGHT_PATIENCE_SECONDS
    while not paths.facts.exists():
        if time.monotonic() > deadline:
            raise RecordError(
                f"worker {rank} does not see {paths.facts}, which worker 0 has: the workers of a trial write one "
                "record together; set the storage to a folder that all machines share"
            )
        time.sleep(0.1)


def write_window_facts(paths: RecordPaths, validation: WindowFacts, test: WindowFacts) -> None:
    """Writes what the held-out windows are, once."""
    if paths.window_facts.exists():
        return
    arrays = {
        f"{split}_{name}": getattr(facts, name)
        for split, facts in (("validation", validation), ("test", test))
        for name in ("num_tokens", "num_bytes", "document")
    }
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with writing(paths.window_facts):
        durable_file(paths.window_facts, content.getvalue())


def _refuse_other_things(paths: RecordPaths) -> None:
    """A run would leave its files among those of a study, or of anything else."""
    own = {path.name for path in (paths.end, paths.commits, paths.best, paths.windows)}
    names = sorted(path.name for path in paths.root.iterdir() if not path.name.startswith(TEMPORARY))
    if others := [name for name in names if name not in own]:
        raise RecordError(
            f"{paths.root} is no run's folder (it holds {others[0]}): name a folder that does not exist yet, "
            "or that of the run to go on with"
        )


def _changed(was: Mapping[str, Any], is_now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings that differ, as `schedule.epochs is 3 there and 4 here`."""
    for name in dict.fromkeys([*was, *is_now]):
        then, now = was.get(name), is_now.get(name)
        if isinstance(then, dict) and isinstance(now, dict):
            yield from _changed(then, now, f"{prefix}{name}.")
        elif then != now:
            yield f"{prefix}{name} is {then} there and {now} here"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
