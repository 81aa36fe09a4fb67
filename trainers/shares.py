"""How a global batch is shared out: among the workers, and among the forward passes of one worker.

The batch, its order and its noise are the same at every world size; only who computes which rows differs. Torch-free,
so that a study is checked before anything is loaded.
"""

from __future__ import annotations

from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError

__all__ = ["check_shares", "micro_batches"]


def micro_batches(share: slice, micro_batch_size: int | None) -> tuple[slice, ...]:
    """A worker's rows, cut into forward passes; all at once where `micro_batch_size` is None.

    Args:
        share: rows of the global batch, which are a whole number of micro-batches.
        micro_batch_size: rows a forward pass.
    """
    size = micro_batch_size or share.stop - share.start
    return tuple(slice(start, start + size) for start in range(share.start, share.stop, size))


def check_shares(config: TrialConfig, world_size: int, num_sequences: int, num_windows: int) -> None:
    """Refuses a world that cannot share this run out evenly.

    Args:
        config: of the run.
        world_size: workers.
        num_sequences: sequences of one epoch.
        num_windows: windows of the smaller held-out split.

    Raises:
        ConfigError: naming the value, the rule and the remedy.
    """
    execution, batch_size = config.execution, config.schedule.batch_size
    if world_size % execution.replicas:
        raise ConfigError(
            f"execution.replicas is {execution.replicas}, but must divide the number of workers, {world_size}: set it "
            f"to {_listed(_divisors(world_size))}"
        )
    if world_size > min(num_sequences, num_windows):
        what = "training sequences" if num_sequences <= num_windows else "held-out windows"
        raise ConfigError(
            f"{world_size} workers are more than the {min(num_sequences, num_windows)} {what} there are: start that "
            "many workers or fewer, or give more data"
        )
    if batch_size % world_size:
        raise ConfigError(
            f"schedule.batch_size is {batch_size}, which {world_size} workers cannot share evenly: set it to a "
            f"multiple of {world_size}, as {_multiple_near(batch_size, world_size)}, or the number of workers to "
            f"{_listed(_divisors(batch_size))}"
        )
    _check_micro_batch(execution.micro_batch_size, batch_size, world_size)


def _check_micro_batch(micro_batch_size: int | None, batch_size: int, world_size: int) -> None:
    share = batch_size // world_size
    if micro_batch_size is None or share % micro_batch_size == 0:
        return
    rule = "is more than" if micro_batch_size > share else "does not divide"
    raise ConfigError(
        f"execution.micro_batch_size is {micro_batch_size}, which {rule} a worker's share of {share} "
        f"(schedule.batch_size {batch_size} over {world_size} {'worker' if world_size == 1 else 'workers'}): set it to "
        f"{_listed(_divisors(share))}, or leave it out to compute a share at once"
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _multiple_near(number: int, of: int) -> int:
    return max(of, round(number / of) * of)


def _listed(numbers: list[int]) -> str:
    """1, 2, 4 or 8; of many the largest, which are those that somebody wants."""
    *rest, last = numbers[-6:]
    return f"{', '.join(map(str, rest))} or {last}" if rest else str(last)
