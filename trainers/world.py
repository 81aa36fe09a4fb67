"""The workers of one run: who this process is among them, and what they say to one another.

A run of one process is a world of one, in which nothing is ever sent. What is agreed on (polls, decisions, rows) goes
over a group on the processors, so that a GPU is never waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
from torch import distributed

from crossover.trainers.errors import ConfigError, CrossoverError

__all__ = ["World", "local_part", "open_world"]

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

    def flags_from_main(self, *flags: bool) -> tuple[bool, ...]:
        """`from_main` for a few booleans, cheap enough for every step."""
        if self.size == 1:
            return flags
        word = torch.tensor(flags, dtype=torch.uint8)
        distributed.broadcast(word, src=0, group=self.control)
        return tuple(bool(flag) for flag in word.tolist())

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the workers, the same bits on each, of a tensor on the processor. All workers call it together."""
        if self.size > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor, group=self.control)
        return tensor

    def sum_on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same, of a tensor where the model is: a GPU is not waited for. All workers call it together."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: float) -> list[float]:
        """The number that each worker has here, by rank. All workers call it together."""
        values = torch.zeros(self.size, dtype=torch.float64)
        values[self.rank] = value
        if self.size > 1:
            boxes = [torch.zeros(1, dtype=torch.float64) for _ in range(self.size)]
            distributed.all_gather(boxes, values[self.rank : self.rank + 1].clone(), group=self.control)
            values = torch.cat(boxes)
        return [float(number) for number in values.tolist()]

    def together(self, action: Callable[[], T]) -> T:
        """What `action` gives here; a mistake of the user that one worker meets is raised on all.

        A worker that raised alone would leave the others waiting for it. All workers call it together.

        Raises:
            CrossoverError: `action` raised it on some worker; the message is that of the first one.
        """
        if self.size == 1:
            return action()
        outcome: T | CrossoverError
        try:
            outcome = action()
        except CrossoverError as error:
            outcome = error
        failures: list[CrossoverError | None] = [None] * self.size
        mine = outcome if isinstance(outcome, CrossoverError) else None
        distributed.all_gather_object(failures, mine, group=self.control)
        for failure in failures:
            if failure is not None:
                raise failure
        assert not isinstance(outcome, CrossoverError)
        return outcome


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this worker holds of a tensor: its shard where it is sharded, else all of it. Memory is shared.

    Elementwise work on it costs no dispatch of a DTensor, 50 to 100 microseconds an operation on a CPU.
    """
    to_local = getattr(tensor, "to_local", None)  # DTensor, whose import takes half a second
    return tensor.detach() if to_local is None else to_local().detach()


@contextmanager
def open_world(device: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[World]:
    """The world that this process was started in: by torchrun, in a Ray Train worker, or alone.

    A process group that is there already (Ray Train makes one) is used and left; else one is made from the variables
    that torchrun sets, and taken down after. Each worker gets the GPU of its LOCAL_RANK, unless `device` is cpu.

    Raises:
        ConfigError: the machine has fewer GPUs than workers.
    """
    if not distributed.is_available() or (
        not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1
    ):
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cpu" and torch.cuda.is_available():
        _take_gpu(local_rank)
    own = not distributed.is_initialized()
    if own:
        distributed.init_process_group(timeout=timedelta(minutes=10))
    try:
        if distributed.get_world_size() == 1:
            yield World()
            return
        control = distributed.new_group(backend="gloo")
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank, control)
    finally:
        if own:
            distributed.destroy_process_group()


def _take_gpu(local_rank: int) -> None:
    """Every worker of a machine with too few GPUs raises, so that the one that speaks for it is among them."""
    num_gpus = torch.cuda.device_count()
    num_workers = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
    if num_workers > num_gpus:
        raise ConfigError(
            f"{num_workers} workers were started on a machine with {num_gpus} {'GPU' if num_gpus == 1 else 'GPUs'}, "
            f"and each needs its own: start {num_gpus} a machine, or set execution.device to cpu"
        )
    torch.cuda.set_device(local_rank)
