"""Real workers, in processes of their own, that talk over gloo."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # a DTensor imports it: here once, and not a second in each worker
import torch.distributed.tensor
from torch import distributed

from crossover.trainers.world import World, open_world

Work = Callable[..., Any]

_PATIENCE = timedelta(seconds=30)


def run_workers(world_size: int, work: Work, *arguments: Any) -> list[Any]:
    """What `work(world, *arguments)` returned in each worker, by rank; a worker that died returns None.

    The processes are forked, which takes a tenth of a second where a new interpreter takes two.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        ends = [context.Pipe(duplex=False) for _ in range(world_size)]
        processes = [
            context.Process(
                target=_worker, args=(rank, world_size, Path(folder) / "store", ends[rank][1], work, arguments)
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        for _, mine in ends:
            mine.close()
        outcomes = [_received(theirs) for theirs, _ in ends]
        for process in processes:
            process.join()
    for outcome in outcomes:
        if isinstance(outcome, _Failed):
            raise AssertionError(outcome.trace)
    return outcomes


class _Failed:
    def __init__(self, trace: str) -> None:
        self.trace = trace


def _received(end: Connection) -> Any:
    try:
        return end.recv()
    except EOFError:
        return None


def _worker(rank: int, size: int, store: Path, end: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=_PATIENCE
        )
        with open_world("cpu") as world:
            outcome = work(world, *arguments)
        distributed.destroy_process_group()
    except BaseException:
        outcome = _Failed(traceback.format_exc())
    end.send(outcome)


def alone(work: Work, *arguments: Any) -> Any:
    """The same in a world of one: here."""
    return work(World(), *arguments)
