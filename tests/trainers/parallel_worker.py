"""One of several workers: does the jobs of a file, one after the other; for `parallel_examples.run_workers`.

Arguments: folder, rank, world size. The folder has `jobs.json`: [name, task, keywords]. Each worker writes what its
task gives to `<name>.<rank>.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import loop_examples as example
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from crossover.trainers.errors import ConfigError, CrossoverError
from crossover.trainers.loop import train
from crossover.trainers.muon import ShardedMuon
from crossover.trainers.optim import clip_gradients
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.step import train_step
from crossover.trainers.training_state import TrainingState, new_state
from crossover.trainers.trial_setup import open_setup
from crossover.trainers.world import local_part, open_world

Json = dict[str, Any]


def train_until(corpus: str, directory: str, settings: Json, stop: list[Any] | None = None) -> Json:
    """A run that the main worker alone asks to stop: [step, reason]."""
    rank = distributed.get_rank() if distributed.is_initialized() else 0

    def answer(progress: Progress) -> StopRequest | None:
        if stop is not None and rank == 0 and progress.step >= stop[0]:
            return StopRequest(stop[1], "the test said so")
        return None

    run = example.ScriptedRun(Path(directory), answer=answer)
    steps: list[int] = []

    def counted(setup: Any, state: TrainingState) -> None:
        train_step(setup, state)
        steps.append(state.step)

    from crossover.trainers import loop

    loop.train_step = counted
    try:
        leg = train(example.config(Path(corpus), **settings), run)
    except CrossoverError as error:
        return {"error": str(error)}
    finally:
        loop.train_step = train_step
    end = None if leg.end is None else leg.end.model_dump()
    told = len(run.asked) + len(run.evaluations)
    return {"status": leg.status, "end": end, "steps": steps, "told": told}


def inputs(corpus: str, settings: Json) -> Json:
    """What the model reads in three steps: the rows of this worker, with their masks."""
    seen: list[list[list[int]]] = []
    with open_world() as world:
        state = new_state(setup := open_setup(example.config(Path(corpus), **settings), world))
        hidden = state.model.hidden

        def recorded(tokens_BL: Tensor, **keywords: Any) -> Tensor:
            seen.append(tokens_BL.tolist())
            return hidden(tokens_BL, **keywords)

        state.model.hidden = recorded  # type: ignore[method-assign]
        for _ in range(3):
            train_step(setup, state)
    return {"tokens": seen}


def sizes(corpus: str, settings: Json) -> Json:
    """Bytes of what this worker holds between two steps, and of its gradients."""
    found: Json = {}
    with open_world() as world:
        state = new_state(setup := open_setup(example.config(Path(corpus), **settings), world))
        step = state.optimizer.step

        def measured(learning_rate: float, weight_decay: float) -> None:
            found["gradients"] = held(p.grad for p in state.model.parameters() if p.grad is not None)
            step(learning_rate, weight_decay)

        state.optimizer.step = measured  # type: ignore[method-assign]
        train_step(setup, state)
        state.parallel.evaluate(lambda: None)
        found["parameters"] = held(state.model.parameters())
        found["optimizer"] = held(state.optimizer.tensors().values())
        found["averages"] = held(state.averages.tensors().values())
        found["all_sharded"] = all(isinstance(p, DTensor) for p in state.model.parameters())
    return found


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors: padding counts, what is shared counts once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in map(local_part, tensors)}
    return sum(storage.nbytes() for storage in storages.values())


def muon() -> Json:
    """Whether sharded updates are bit for bit those of torch's Muon, over tall, wide and odd matrices."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    shapes = [(8, 8), (24, 8), (8, 24), (5, 7), (2, 64), (1, 3), (33, 16)]
    make = torch.Generator().manual_seed(0)
    whole = [torch.nn.Parameter(torch.randn(shape, generator=make)) for shape in shapes]
    shards = [torch.nn.Parameter(distribute_tensor(w.detach().clone(), mesh, [Shard(0)])) for w in whole]
    expected = torch.optim.Muon(whole, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    found = ShardedMuon(shards, lr=0.02, weight_decay=0.1, momentum=0.95)
    for _ in range(3):
        for parameter, shard in zip(whole, shards, strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=make)
            shard.grad = distribute_tensor(parameter.grad.clone(), mesh, [Shard(0)])
        expected.step()
        found.step()
    return {"equal": [torch.equal(whole_of(s), w) for s, w in zip(shards, whole, strict=True)]}


def clipped() -> Json:
    """The norm of sharded gradients, and the gradients after clipping."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    model = torch.nn.Linear(2, 3)
    for name, gradient in (("weight", torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])), ("bias", torch.eye(3)[2])):
        shard = torch.nn.Parameter(distribute_tensor(gradient, mesh, [Shard(0)]))
        shard.grad = distribute_tensor(4 * gradient, mesh, [Shard(0)])
        setattr(model, name, shard)
    norm = clip_gradients(model, 1.0)
    gradients = [whole_of(p.grad).tolist() for p in (model.weight, model.bias) if p.grad is not None]
    return {"norm": norm.item(), "is_plain": not isinstance(norm, DTensor), "gradients": gradients}


def whole_of(tensor: Tensor) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.full_tensor().detach()


def mistake(rank: int) -> Json:
    """A mistake of the user that one worker alone meets."""
    with open_world() as world:

        def action() -> str:
            if world.rank == rank:
                raise ConfigError(f"worker {rank} has no such device")
            return "done"

        try:
            return {"gave": world.together(action)}
        except CrossoverError as error:
            return {"error": str(error)}


def words() -> Json:
    """What workers say to one another."""
    with open_world() as world:
        return {
            "from_main": world.from_main({"rank": world.rank}),
            "flags": world.flags_from_main(world.rank == 0, world.rank != 0),
            "sum": world.sum(torch.tensor([float(world.rank), 1.0])).tolist(),
            "gather": world.gather(10.0 + world.rank),
            "rows": [world.rows(8).start, world.rows(8).stop],
        }


TASKS: dict[str, Callable[..., Json]] = {
    task.__name__: task for task in (train_until, inputs, sizes, muon, clipped, mistake, words)
}


def main() -> None:
    folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=size, timeout=timedelta(seconds=120)
    )
    for name, task, keywords in json.loads((folder / "jobs.json").read_text()):
        result = TASKS[task](**keywords)
        (folder / f"{name}.{rank}.json").write_text(json.dumps(result))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
