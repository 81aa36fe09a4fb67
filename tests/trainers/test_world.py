from __future__ import annotations

import pytest
import torch

from crossover.trainers.errors import ConfigError
from crossover.trainers.world import World, local_part, open_world

pytestmark = pytest.mark.integration


def test_a_process_by_itself_is_a_world_of_one_in_which_nothing_is_sent() -> None:
    with open_world() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        value, tensor = object(), torch.ones(2)
        assert world.from_main(value) is value
        assert world.flags_from_main(True, False) == (True, False)
        assert world.sum(tensor) is tensor
        assert world.gather(2.5) == [2.5]
        assert world.together(lambda: 3) == 3
        assert world.rows(7) == slice(0, 7)


def test_a_mistake_in_a_world_of_one_is_raised_as_it_is() -> None:
    with pytest.raises(ConfigError, match="as it is"):
        World().together(lambda: mistake("as it is"))


def mistake(message: str) -> None:
    raise ConfigError(message)


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_more_workers_than_gpus_are_refused_on_every_worker_before_they_meet(
    local_rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name, value in (
        ("WORLD_SIZE", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("RANK", local_rank),
        ("LOCAL_RANK", local_rank),
    ):
        monkeypatch.setenv(name, value)
    refused = r"2 workers were started on a machine with 1 GPU, .* start 1 a machine, or set execution\.device to cpu"
    with pytest.raises(ConfigError, match=refused), open_world("auto"):
        pass
    assert not taken


def test_the_local_part_of_a_plain_tensor_is_all_of_it_in_the_same_memory() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    part = local_part(parameter)
    part.mul_(2)
    assert not part.requires_grad
    assert parameter.tolist() == [2.0, 2.0, 2.0]
