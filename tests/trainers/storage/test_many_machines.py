"""A record in a store that workers on several machines write together: no machine sees another one's disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import record_examples as example
import torch
from several_workers import alone, run_workers
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from crossover.trainers.checkpoint import Checkpoint, load_into, read_tensors, shapes_of
from crossover.trainers.errors import CrossoverError
from crossover.trainers.record_writer import open_record
from crossover.trainers.storage import PublishedRecord, StoredFile
from crossover.trainers.world import World

pytestmark = pytest.mark.integration

NUM_ROWS = 3
WEIGHTS = torch.arange(21.0).reshape(7, 3)  # rows that two workers cannot share evenly


@dataclass(frozen=True)
class FolderStore:
    """Stands for an object store: a client of the real one would not outlive the fork of the workers."""

    folder_of_all: Path
    broken_for: str = ""

    def folder(self, name: str) -> FolderStore:
        return replace(self, folder_of_all=self.folder_of_all / name)

    def put(self, name: str, content: bytes) -> None:
        path = self.folder_of_all / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}").write_bytes(content)
        path.with_name(f".{path.name}").replace(path)

    def get(self, name: str) -> bytes | None:
        path = self.folder_of_all / name
        return path.read_bytes() if path.exists() else None

    def upload(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            self.put(name, path.read_bytes())

    def download(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder_of_all / name, path)

    def list(self, name: str = "", *, recursive: bool = True) -> dict[str, StoredFile]:
        paths = (self.folder_of_all / name).rglob("*") if recursive else (self.folder_of_all / name).glob("*")
        files = [path for path in paths if path.is_file() and not path.name.startswith(".")]
        return {path.relative_to(self.folder_of_all).as_posix(): StoredFile(path.stat().st_size, 0) for path in files}

    def remove_folders(self, names: Iterable[str]) -> None:
        for name in names:
            shutil.rmtree(self.folder_of_all / name, ignore_errors=True)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder_of_all / name).unlink(missing_ok=True)


def shared(world: World, weights: torch.Tensor) -> torch.Tensor:
    if world.size == 1:
        return weights.clone()
    return distribute_tensor(weights.clone(), init_device_mesh("cpu", (world.size,)), [Shard(0)])


def opened(world: World, folder: Path) -> Any:
    """The record in the store, by a worker whose machine has a disk of its own."""
    store: Any = FolderStore(folder / "store")
    return open_record(folder / f"machine-{world.rank}/record", example.facts(), world, PublishedRecord(store))


def write(world: World, folder: Path) -> None:
    with opened(world, folder) as writer:
        for step in range(1, NUM_ROWS + 1):
            commit(writer, world, step)


def commit(writer: Any, world: World, step: int) -> None:
    checkpoint = Checkpoint({"model": {"w": shared(world, WEIGHTS * step)}}, {"step": step})
    best = (step, {"w": shared(world, WEIGHTS + step)})
    writer.commit(example.rows(step), checkpoint, window_nats={step: example.window_nats(step)}, best=best)


def go_on(world: World, folder: Path) -> tuple[int, bool, bool]:
    """Step that is gone on from, and whether weights and best weights are what they were."""
    with opened(world, folder) as writer:
        restored = writer.restore()
        assert restored is not None
        step = restored.checkpoint.scalars["step"]
        assert restored.evaluations == example.rows(step)
        source = restored.checkpoint.tensors["model"]
        target = shared(world, torch.zeros(shapes_of(source)["w"]))
        load_into(target, source, "w")
        whole = target if world.size == 1 else target.full_tensor()  # type: ignore[attr-defined]
        best = read_tensors(writer.record.best_weights())["w"]
        commit(writer, world, step + 1)
    return step, torch.equal(whole, WEIGHTS * step), torch.equal(best, WEIGHTS + step)


def leave(folder: Path) -> None:
    """The next leg runs on other machines."""
    for machine in folder.glob("machine-*"):
        shutil.rmtree(machine)


@pytest.mark.parametrize(("writers", "readers"), [(2, 1), (1, 2), (3, 2)])
def test_any_number_of_machines_goes_on_with_what_others_wrote(tmp_path: Path, writers: int, readers: int) -> None:
    run_workers(writers, write, tmp_path) if writers > 1 else alone(write, tmp_path)
    leave(tmp_path)
    found = run_workers(readers, go_on, tmp_path) if readers > 1 else [alone(go_on, tmp_path)]
    assert found == [(NUM_ROWS, True, True)] * readers
    names = FolderStore(tmp_path / "store").list()
    assert not [name for name in names if name.startswith("shares")]
    assert {name.split("/")[1] for name in names if name.startswith("commits")} == {"2", "3"}


def test_what_hinders_one_machine_is_heard_by_all_and_the_commit_before_stands(tmp_path: Path) -> None:
    run_workers(2, write, tmp_path)
    leave(tmp_path)
    heard = run_workers(2, _breaks_on_the_second, tmp_path)
    assert heard[0] is not None and "worker 1 says: " in heard[0]
    leave(tmp_path)
    assert alone(go_on, tmp_path) == (NUM_ROWS, True, True)


def _breaks_on_the_second(world: World, folder: Path) -> str | None:
    try:
        with opened(world, folder) as writer:
            writer.restore()
            if world.rank == 1:
                place = writer.paths.commits
                shutil.rmtree(place)
                place.write_text("a file where a folder must be")
            commit(writer, world, NUM_ROWS + 1)
            writer.wait()
    except CrossoverError as error:
        return str(error)
    return None
