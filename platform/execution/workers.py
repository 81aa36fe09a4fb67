"""How many workers a trial has: as many as the study says, or the fewest GPUs in whose memory it fits.

The estimate is that of `search.constraints`, per worker, with products in bfloat16 where the precision is `auto`, as
GPUs compute. `auto` leaves 15 % of a GPU to what is not estimated: CUDA and NCCL themselves, copies of weights that
autocast keeps, gaps of the allocator. A number of workers that the user gives is refused only where what is held all
the time is more than the whole GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossover.platform.study.constraints import Memory, memory_of
from crossover.platform.study.model import ResourcesConfig, WorkerRange
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError, CrossoverError
from crossover.trainers.shares import check_shares

__all__ = [
    "Room",
    "check_state",
    "worker_counts",
    "workers_of",
]

_USABLE_FRACTION = 0.85


@dataclass(frozen=True)
class Room:
    """What there is for the workers of one trial.

    Args:
        num_workers: that fit at once, if nothing else runs.
        gpu_bytes: memory of the smallest GPU; None: workers have none, or nobody can say.
    """

    num_workers: int
    gpu_bytes: int | None = None


def worker_counts(workers: WorkerRange, config: TrialConfig) -> list[int]:
    """Numbers of workers in a range that share a batch evenly and hold whole replicas, ascending."""
    return [count for count in range(workers.min, workers.max + 1) if _shares_evenly(config, count)]


def _shares_evenly(config: TrialConfig, count: int) -> bool:
    sequences = -(-config.data.unique_tokens // config.data.sequence_length)
    windows = min(config.evaluation.validation_windows, config.evaluation.test_windows)
    try:
        check_shares(config, count, sequences, windows)
    except ConfigError:
        return False
    return True


def workers_of(resources: ResourcesConfig, config: TrialConfig, room: Room) -> WorkerRange:
    """Workers of one trial.

    Raises:
        CrossoverError: it fits no number of GPUs that there are.
    """
    if (given := resources.given_workers) is not None:
        return given
    if room.gpu_bytes is None:
        raise CrossoverError(
            "resources.workers = auto, but the memory of the GPUs is not known here: set the number of workers"
        )
    counts = worker_counts(WorkerRange(min=1, max=max(1, room.num_workers)), config)
    usable = _USABLE_FRACTION * room.gpu_bytes
    for count in counts:
        if _memory(config, count).total_bytes <= usable:
            return WorkerRange(min=count, max=count)
    raise CrossoverError(_fits_nowhere(config, counts, room))


def _fits_nowhere(config: TrialConfig, counts: list[int], room: Room) -> str:
    assert room.gpu_bytes is not None
    batch, replicas = config.schedule.batch_size, config.execution.replicas
    if not counts:
        return (
            f"resources.workers = auto, but none of the {room.num_workers} workers that there is room for divides "
            f"schedule.batch_size = {batch}, with execution.replicas = {replicas} and execution.micro_batch_size = "
            f"{config.execution.micro_batch_size}: change these settings, or add GPUs"
        )
    most = counts[-1]
    need = _memory(config, most)
    return (
        f"resources.workers = auto, but the trial is estimated to take {_gigabytes(need.total_bytes)} on each of "
        f"{most} GPUs ({_parts(need)}), and a GPU has {_gigabytes(room.gpu_bytes)}, of which "
        f"{_gigabytes(_USABLE_FRACTION * room.gpu_bytes)} are counted on: lower execution.micro_batch_size, set "
        "execution.activation_checkpointing to selective or full, make the model smaller, or add GPUs (as many as "
        f"divide schedule.batch_size = {batch}; {room.num_workers} are there)"
    )


def _parts(memory: Memory) -> str:
    return (
        f"weights, gradients, optimizer and averages {_gigabytes(memory.state_bytes)}, gathered weights "
        f"{_gigabytes(memory.gathered_bytes)}, activations {_gigabytes(memory.activation_bytes)}"
    )


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB"


def _memory(config: TrialConfig, workers: int) -> Memory:
    execution = config.execution
    if execution.precision == "auto":
        execution = execution.model_copy(update={"precision": "bfloat16"})
    return memory_of(config.model_copy(update={"execution": execution}), workers)


def check_state(resources: ResourcesConfig, config: TrialConfig, room: Room) -> None:
    """Refuses workers that the user gave and that surely cannot hold a trial.

    Raises:
        CrossoverError: weights, gradients, optimizer and averages alone are more than a worker's GPU memory.
    """
    if (given := resources.given_workers) is None or room.gpu_bytes is None:
        return
    held, memory = _memory(config, given.max).state_bytes, room.gpu_bytes * resources.gpus_per_worker
    if held > memory:
        raise CrossoverError(
            f"weights, gradients, optimizer and averages take {_gigabytes(held)} a worker, but a worker has "
            f"{_gigabytes(memory)} of GPU memory (resources.gpus_per_worker = {resources.gpus_per_worker:g}): set more "
            "resources.workers, or auto, or make the model smaller"
        )
