"""FSDP on two workers of one thread against one process of two threads: tokens a second, and bytes a worker.

On a CPU the two do the same work on the same cores, so what is lost is what sharding costs: weights are gathered and
gradients reduced through memory, by the cores that compute. Bytes are counted, not sampled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from harness import Goal, publish
from torch import Tensor

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import prepare_corpus
from crossover.trainers.step import train_step
from crossover.trainers.training_state import TrainingState, new_state
from crossover.trainers.trial_setup import open_setup
from crossover.trainers.world import World, local_part, open_world

SHAPES = ((4, 96), (6, 256), (8, 384))
OPTIMIZERS = ("adamw", "muon")
WORKERS, THREADS = 2, 2
WARM_UPS = 1
BATCH, LENGTH = 16, 128


def configuration(corpus: Path, num_layers: int, width: int, optimizer: str, threads: int) -> TrialConfig:
    """Autoregressive, 16 sequences of 128 tokens a step, averaged weights, the precision that is taken by itself."""
    return config_from_dotted(
        {
            "data.corpus": str(corpus),
            "data.unique_tokens": 16_384,
            "data.sequence_length": LENGTH,
            "model.num_layers": num_layers,
            "model.width": width,
            "objective.name": "autoregressive",
            "optimizer.name": optimizer,
            "schedule.epochs": 1000,
            "schedule.batch_size": BATCH,
            "execution.threads": threads,
            "execution.compile": "off",
        }
    )


class Case:
    """One configuration, and what its steps take and hold."""

    def __init__(self, config: TrialConfig, world: World) -> None:
        self.world = world
        self.setup = open_setup(config, world)
        self.setup.runtime.activate()
        self.state: TrainingState = new_state(self.setup)
        self.bytes: dict[str, int] = {}
        step = self.state.optimizer.step

        def measured(*arguments: float) -> None:
            gradients = [p.grad for p in self.state.model.parameters() if p.grad is not None]
            self.bytes["gradients"] = held(gradients)
            step(*arguments)

        self.state.optimizer.step = measured  # type: ignore[method-assign]
        self.step()
        self.state.optimizer.step = step  # type: ignore[method-assign]
        self.bytes["parameters"] = held(self.state.model.parameters())
        self.bytes["optimizer"] = held(self.state.optimizer.tensors().values())
        self.bytes["averages"] = held(self.state.averages.tensors().values())

    def step(self) -> None:
        """As the loop makes it, with the word that the main worker gives after each."""
        train_step(self.setup, self.state)
        self.world.flags_from_main(False, False)

    def seconds(self, num_steps: int) -> float:
        """Wall seconds of a step."""
        start = time.perf_counter()
        for _ in range(num_steps):
            self.step()
        return (time.perf_counter() - start) / num_steps


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors: padding counts, what is shared counts once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in map(local_part, tensors)}
    return sum(storage.nbytes() for storage in storages.values())


def serve(corpus: Path, rank: int, size: int, meeting: Path) -> None:
    """A worker: for each line [layers, width, optimizer, steps] the seconds of a step; the main one answers."""
    if size > 1:
        torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size)
    with open_world() as world:
        cases: dict[tuple[Any, ...], Case] = {}
        for line in sys.stdin:
            *key, num_steps = json.loads(line)
            if tuple(key) not in cases:
                cases.clear()
                cases[tuple(key)] = Case(configuration(corpus, *key, threads=THREADS // size), world)
            case = cases[tuple(key)]
            answer = {"seconds": case.seconds(num_steps), "precision": case.setup.runtime.precision} | case.bytes
            print(json.dumps(answer), flush=True)
    if size > 1:
        torch.distributed.destroy_process_group()


class Group:
    """Processes that train together; they wait for the next line while another group is measured."""

    def __init__(self, corpus: Path, size: int, meeting: Path) -> None:
        command = [sys.executable, __file__, "--corpus", str(corpus), "--size", str(size), "--meeting", str(meeting)]
        self.workers = [
            subprocess.Popen(
                [*command, "--rank", str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            for rank in range(size)
        ]

    def ask(self, *line: object) -> dict[str, Any]:
        """What the worker that holds most found."""
        answers = []
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(line) + "\n")
        for worker in self.workers:
            assert worker.stdout is not None
            answers.append(json.loads(worker.stdout.readline()))
        return {key: max(answer[key] for answer in answers) for key in answers[0]}


@contextmanager
def group(corpus: Path, size: int, meeting: Path) -> Iterator[Group]:
    """Started, and ended after."""
    started = Group(corpus, size, meeting)
    try:
        yield started
    finally:
        for worker in started.workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in started.workers:
            worker.wait(60)


def measure(one: Group, two: Group, key: tuple[int, int, str], repeats: int, num_steps: int) -> dict[str, Any]:
    """One row: both measured in turn."""
    seconds: dict[str, list[float]] = {"one": [], "two": []}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name, workers in (("one", one), ("two", two)):
            workers.ask(*key, WARM_UPS)
            found[name] = workers.ask(*key, num_steps)
            seconds[name].append(found[name]["seconds"])
    tokens = BATCH * LENGTH
    speeds = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    kinds = ("parameters", "gradients", "optimizer", "averages")
    whole, most = (sum(found[name][kind] for kind in kinds) for name in ("one", "two"))
    num_layers, width, optimizer = key
    return {
        "layers x width": f"{num_layers} x {width}",
        "optimizer": optimizer,
        "precision": found["two"]["precision"],
        "1 process, 2 threads, tok/s": speeds["one"],
        "2 workers, tok/s": speeds["two"],
        "ratio": speeds["two"] / speeds["one"],
        "MB of 1": whole / 1e6,
        "MB a worker": most / 1e6,
        "bytes ratio": most / whole,
        "repeats": repeats,
    }


def main() -> None:
    """Measure every shape with both optimizers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many of the shapes, the smallest first")
    parser.add_argument("--corpus", type=Path, help="of a worker")
    parser.add_argument("--rank", type=int, help="of a worker")
    parser.add_argument("--size", type=int, help="of a worker's world")
    parser.add_argument("--meeting", type=Path, help="file at which workers meet")
    arguments = parser.parse_args()
    if arguments.rank is not None:
        serve(arguments.corpus, arguments.rank, arguments.size, arguments.meeting)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "text").mkdir()
        for number in range(100):
            words = " ".join(f"{number * place_of % 977} words" for place_of in range(200))
            (place / "text" / f"{number}.txt").write_text(words)
        prepare_corpus([place / "text"], place / "corpus")
        with group(place / "corpus", 1, place / "one") as one, group(place / "corpus", WORKERS, place / "two") as two:
            rows = [
                measure(one, two, (*shape, optimizer), arguments.repeats, arguments.steps)
                for shape in SHAPES[: arguments.shapes]
                for optimizer in OPTIMIZERS
            ]
    goals = [Goal("most bytes a worker of two, over one", max(r["bytes ratio"] for r in rows), at_most=0.55)]
    publish("fsdp", rows, goals)


if __name__ == "__main__":
    main()
