"""A record that several workers write together, and that any other number of them goes on with."""

from __future__ import annotations

import math
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import record_examples as example
import torch
from several_workers import alone, run_workers
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from crossover.trainers import commit_files, durable, record_start
from crossover.trainers.checkpoint import Checkpoint, Tensors, load_into, read_tensors, shapes_of
from crossover.trainers.commit_files import CommitFiles
from crossover.trainers.errors import RecordError
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.world import World

pytestmark = pytest.mark.integration

NUM_ROWS = 3


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def written_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("by_two")
    run(2, write, path)
    return path


@pytest.fixture
def by_two(written_by_two: Path, tmp_path: Path) -> Path:
    """A record of `NUM_ROWS` commits by two workers."""
    return shutil.copytree(written_by_two, tmp_path / "by_two")


def whole_weights(step: int) -> dict[str, torch.Tensor]:
    """Numbers that differ by step; rows that 2 and 3 workers cannot share evenly, and fewer than there are workers."""
    generator = torch.Generator().manual_seed(step)
    odd = torch.tensor([math.nan, -0.0, math.inf, 1e-45, -math.inf]) * step
    shapes = {"table": (7, 3), "one": (1, 4), "cube": (4, 2, 2), "even": (6,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | {"odd": odd}


def shared(world: World, tensors: Tensors, replicas: int = 1) -> dict[str, torch.Tensor]:
    """The tensors as FSDP2 shares them out, by their first dimension; plain in a world of one."""
    if world.size == 1:
        return {name: tensor.clone() for name, tensor in tensors.items()}
    mesh, placements = mesh_of(world.size, replicas), [Replicate(), Shard(0)] if replicas > 1 else [Shard(0)]
    return {name: distribute_tensor(tensor.clone(), mesh, placements) for name, tensor in tensors.items()}


@cache  # a worker makes one; the process of the tests makes none
def mesh_of(world_size: int, replicas: int) -> DeviceMesh:
    return init_device_mesh("cpu", (replicas, world_size // replicas) if replicas > 1 else (world_size,))


def state(world: World, step: int, replicas: int = 1) -> Checkpoint:
    optimizer = {"step": torch.tensor(float(step))}  # the same on each worker, and no DTensor
    weights = shared(world, whole_weights(step), replicas)
    return Checkpoint({"model": weights, "optimizer": optimizer, "averages": {}}, {"step": step})


def commit_row(writer: RecordWriter, world: World, step: int, replicas: int = 1) -> None:
    best = (step, shared(world, whole_weights(-step), replicas))
    windows = {step: example.window_nats(step)}
    writer.commit(example.rows(step), state(world, step, replicas), window_nats=windows, best=best)


def write(world: World, path: Path, replicas: int = 1) -> None:
    with open_record(path, example.facts(), world) as writer:
        for step in range(1, NUM_ROWS + 1):
            commit_row(writer, world, step, replicas)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.view(torch.int32), other.view(torch.int32))


def go_on(world: World, path: Path) -> tuple[int, bool, bool]:
    """Step that is gone on from, and whether the weights and the best ones are what they were there."""
    with open_record(path, example.facts(), world) as writer:
        restored = writer.restore()
        assert restored is not None
        step = restored.checkpoint.scalars["step"]
        assert restored.evaluations == example.rows(step)
        assert restored.checkpoint.tensors["optimizer"]["step"].item() == step
        assert restored.checkpoint.tensors["averages"] == {}
        whole = (loaded(world, source) for source in (restored.checkpoint.tensors["model"], best_of(writer)))
        right = [
            all(same_bits(tensors[name], expected) for name, expected in whole_weights(of).items())
            for tensors, of in zip(whole, (step, -step), strict=True)
        ]
        commit_row(writer, world, step + 1)
    return step, right[0], right[1]


def best_of(writer: RecordWriter) -> dict[str, torch.Tensor]:
    return read_tensors(writer.record.best_weights())


def loaded(world: World, source: Tensors) -> dict[str, torch.Tensor]:
    targets = shared(world, {name: torch.zeros(shape) for name, shape in shapes_of(source).items()})
    for name, target in targets.items():
        load_into(target, source, name)
    return targets if world.size == 1 else {n: t.full_tensor() for n, t in targets.items()}  # type: ignore[attr-defined]


def run(world_size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [alone(work, *arguments)] if world_size == 1 else run_workers(world_size, work, *arguments)


@pytest.mark.parametrize(("writers", "readers"), [(1, 2), (2, 1), (2, 3)])
def test_any_world_size_goes_on_with_what_another_wrote(tmp_path: Path, writers: int, readers: int) -> None:
    run(writers, write, tmp_path)
    assert run(readers, go_on, tmp_path) == [(NUM_ROWS, True, True)] * readers
    assert alone(go_on, tmp_path) == (NUM_ROWS + 1, True, True)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_of_equal_copies_one_worker_writes_its_own(tmp_path: Path) -> None:
    run(4, write, tmp_path, 2)
    shards = list((tmp_path / "commits/2/checkpoint/model").iterdir())
    assert len(shards) == 4
    written = sum(tensor.numel() for shard in shards for tensor in read_tensors(shard).values())
    assert written == sum(tensor.numel() for tensor in whole_weights(1).values())
    assert alone(go_on, tmp_path) == (NUM_ROWS, True, True)


def test_a_commit_names_the_shards_of_every_worker_and_holds_nothing_else(by_two: Path) -> None:
    folder = by_two / "commits/2"
    commit, _ = TrialRecord(by_two).read_commit(2)
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert held == commit.files.keys() | {"COMMIT.json"}
    shards = {f"checkpoint/model/0000{k}-of-00002.safetensors" for k in (1, 2)}
    assert {name for name in held if "model" in name} == shards


SECOND_SHARD = "commits/2/checkpoint/model/00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("file", "damage", "readers"),
    [
        *((SECOND_SHARD, damage, 2) for damage in example.DAMAGES),
        (SECOND_SHARD, example.truncate, 1),
        ("commits/2/checkpoint/optimizer/00001-of-00002.safetensors", Path.unlink, 2),
        ("commits/2/COMMIT.json", example.flip_a_bit, 2),
        ("best/3/weights.safetensors", example.flip_a_bit, 2),
    ],
)
def test_all_workers_refuse_what_is_damaged_and_use_the_commit_before(
    by_two: Path, file: str, damage: Callable[[Path], None], readers: int
) -> None:
    damage(by_two / file)
    assert run(readers, go_on, by_two) == [(NUM_ROWS - 1, True, True)] * readers


def failing(world: World, path: Path, fail: Callable[[World], None]) -> str:
    """What the workers are told when the commit after `NUM_ROWS` fails, each by itself."""
    with open_record(path, example.facts(), world) as writer:
        writer.restore()
        fail(world)
        commit_row(writer, world, NUM_ROWS + 1)
        with pytest.raises(RecordError) as raised:
            writer.wait()
        with pytest.raises(RecordError):
            commit_row(writer, world, NUM_ROWS + 2)
    return str(raised.value)


def limit_files_of_last_worker(world: World) -> None:
    """Shards do not fit any more; a report does."""
    if world.rank == world.size - 1:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))


def forget_to_write(world: World) -> None:
    commit_files._PATIENCE_SECONDS = 0.2
    if world.rank == 1:
        CommitFiles.write = lambda self, snapshot: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (limit_files_of_last_worker, "worker 1 says: .*File too large"),
        (forget_to_write, r"worker 1 of 2 .* did not write its share within 0\.2 s"),
    ],
)
def test_what_one_worker_cannot_write_is_an_error_on_all_that_names_it(
    by_two: Path, fail: Callable[[World], None], message: str
) -> None:
    said = run(2, failing, by_two, fail)
    for text in said:
        assert re.search(f"commits/3 cannot be written: .*{message}", text), text
    assert not list(by_two.rglob(".tmp-*"))
    assert run(2, go_on, by_two) == [(NUM_ROWS, True, True)] * 2, "when there is room again"


def die_with_shards_written(world: World, path: Path, rank: int) -> None:
    if world.rank == rank:
        name = "_commit" if rank == 0 else "_write_tensors"
        setattr(CommitFiles, name, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
    commit_files._IMPATIENCE_SECONDS = 0.2
    with open_record(path, example.facts(), world) as writer:
        writer.restore()
        commit_row(writer, world, NUM_ROWS + 1)
        world.from_main(None)
        raise InterruptedError("the workers that live are not to be reached any more")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_is_killed_leaves_the_commit_before(by_two: Path, rank: int) -> None:
    with pytest.raises(AssertionError, match=r"Connection|connection|InterruptedError"):
        run(2, die_with_shards_written, by_two, rank)
    assert TrialRecord(by_two).evaluations() == example.rows(NUM_ROWS)
    assert run(2, go_on, by_two) == [(NUM_ROWS, True, True)] * 2
    assert not list(by_two.rglob(".tmp-*"))


def open_another_trial(world: World, path: Path) -> str:
    with (
        pytest.raises(RecordError, match="another trial") as raised,
        open_record(path, example.facts(trial_id="f" * 16), world),
    ):
        pass
    return str(raised.value)


def test_a_folder_of_another_trial_is_refused_on_all_workers(tmp_path: Path) -> None:
    alone(write, tmp_path)
    assert len(set(run(3, open_another_trial, tmp_path))) == 1


def open_a_folder_of_ones_own(world: World, path: Path) -> str:
    record_start._SIGHT_PATIENCE_SECONDS = 0.2
    with pytest.raises(RecordError) as raised, open_record(path / str(world.rank), example.facts(), world):
        pass
    return str(raised.value)


def test_workers_that_do_not_share_a_folder_are_told_at_the_start(tmp_path: Path) -> None:
    for said in run(2, open_a_folder_of_ones_own, tmp_path):
        assert re.search(r"worker 1 does not see .*1/trial\.json, .*a folder that all machines share", said)
