from __future__ import annotations

from pathlib import Path

import loop_examples as example
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.shares import check_shares, micro_batches
from crossover.trainers.world import World


def config(batch_size: int = 16, micro_batch_size: int | None = None, replicas: int = 1) -> TrialConfig:
    return example.config(
        Path("none"),
        schedule__batch_size=batch_size,
        execution__micro_batch_size=micro_batch_size,
        execution__replicas=replicas,
    )


@given(world_size=st.integers(1, 8), micro_batch_size=st.integers(1, 6), num=st.integers(1, 6))
def test_all_rows_are_computed_once_in_passes_of_the_size_that_was_asked_for(
    world_size: int, micro_batch_size: int, num: int
) -> None:
    batch_size = world_size * micro_batch_size * num
    slices = [
        rows
        for rank in range(world_size)
        for rows in micro_batches(World(rank, world_size).rows(batch_size), micro_batch_size)
    ]
    assert [row for rows in slices for row in range(rows.start, rows.stop)] == list(range(batch_size))
    assert {rows.stop - rows.start for rows in slices} == {micro_batch_size}
    check_shares(config(batch_size, micro_batch_size), world_size, 1000, 1000)


def test_without_a_micro_batch_size_a_share_is_computed_at_once() -> None:
    assert micro_batches(slice(4, 8), None) == (slice(4, 8),)


@pytest.mark.parametrize(
    ("settings", "world_size", "num_sequences", "num_windows", "message"),
    [
        (
            config(batch_size=16),
            3,
            99,
            99,
            "schedule.batch_size is 16, which 3 workers cannot share evenly: set it to a multiple of 3, as 15, or "
            "the number of workers to 1, 2, 4, 8 or 16",
        ),
        (config(batch_size=1), 2, 99, 99, "set it to a multiple of 2, as 2, or the number of workers to 1"),
        (
            config(replicas=2),
            1,
            99,
            99,
            "execution.replicas is 2, but must divide the number of workers, 1: set it to 1",
        ),
        (
            config(replicas=3),
            4,
            99,
            99,
            "execution.replicas is 3, but must divide the number of workers, 4: set it to 1, 2 or 4",
        ),
        (config(), 4, 3, 99, "4 workers are more than the 3 training sequences there are: start that many workers"),
        (config(), 4, 99, 2, "4 workers are more than the 2 held-out windows there are"),
        (
            config(micro_batch_size=16),
            2,
            99,
            99,
            "execution.micro_batch_size is 16, which is more than a worker's share of 8 (schedule.batch_size 16 over 2 "
            "workers): set it to 1, 2, 4 or 8, or leave it out",
        ),
        (config(micro_batch_size=3), 1, 99, 99, "is 3, which does not divide a worker's share of 16 (schedule"),
    ],
)
def test_a_world_that_cannot_share_the_run_is_refused_with_the_remedy(
    settings: TrialConfig, world_size: int, num_sequences: int, num_windows: int, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_shares(settings, world_size, num_sequences, num_windows)
    assert message in str(refused.value)
