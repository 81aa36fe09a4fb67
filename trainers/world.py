"""The workers of one run: who this process is among them, and what they say to one another.

A run of one process is a world of one, in which nothing is ever sent. What is agreed on (polls, decisions, rows) goes
over a group on the processors, so that a GPU is never waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["World", "open_world"]

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Args:
        rank: of this one, from 0.
        size: how many there are.
        local_rank: of this one on its machine; chooses the GPU.
        control: group on the processors, for words; None in a world of one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the record and asks the questions."""
        return self.rank == 0

    def rows(self, num_rows: int) -> slice:
        """This worker's share of the rows of a global batch, which the size of the world divides."""
        share = num_rows // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def from_main(self, value: T) -> T:
        """What the main worker has here; the others' own value is dropped. All workers call it together."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the workers, the same bits on each, of a tensor on the processor. All workers call it together."""
        if self.size > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor, group=self.control)
        return tensor


@contextmanager
def open_world() -> Iterator[World]:
    """The world that this process was started in: by torchrun, in a Ray Train worker, or alone.

    A process group that is there already (Ray Train makes one) is used and left; else one is made from the variables
    that torchrun sets, and taken down after.
    """
    if not distributed.is_available() or (
        not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1
    ):
        yield World()
        return
    own = not distributed.is_initialized()
    if own:
        distributed.init_process_group(timeout=timedelta(minutes=10))
    try:
        if distributed.get_world_size() == 1:
            yield World()
            return
        control = distributed.new_group(backend="gloo")
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank, control)
    finally:
        if own:
            distributed.destroy_process_group()
