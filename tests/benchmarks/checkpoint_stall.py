"""What a checkpoint costs the step loop: written while it waits, and written by a thread while it goes on.

The loop is stalled by the call, which copies the state. What is lost is all that the steps took longer besides: on a
machine whose processors all train, the thread computes digests on the same ones.
Each commit holds weights, averages and both moments of AdamW, and the averages once more as the best weights: 20 bytes
a parameter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bare_loop import BareLoop, random_batch
from harness import OUTPUT, Goal, publish, seconds_of

from crossover.trainers.checkpoint import Checkpoint
from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Vocabulary
from crossover.trainers.record import RecordPaths
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.rows import TrialFacts

SHAPES = {"0.5M": (4, 96), "5M": (6, 256), "50M": (16, 512)}
CHECKPOINTS_EVERY_SECONDS = 60.0
STEPS_LAST = 2.0  # of the seconds that a commit takes with nothing else going on


def configuration(num_layers: int, width: int) -> TrialConfig:
    """4 sequences of 64 tokens a step on all processors: steps so short that little of what is lost hides in one."""
    return config_from_dotted(
        {
            "data.corpus": "none",
            "data.unique_tokens": 1024,
            "data.sequence_length": 64,
            "model.num_layers": num_layers,
            "model.width": width,
            "objective.name": "autoregressive",
            "schedule.epochs": 1,
            "schedule.batch_size": 4,
            "execution.threads": os.cpu_count(),
        }
    )


@dataclass
class Trained:
    """A model in training whose state is committed."""

    loop: BareLoop
    num_commits: int = 0

    def __post_init__(self) -> None:
        self.batch = random_batch(self.loop.config, Vocabulary(256))

    def step(self) -> None:
        """One optimizer step."""
        self.loop.step(self.batch)

    def commit(self, writer: RecordWriter) -> None:
        """A checkpoint of the whole state and new best weights."""
        averages = self.loop.averages.tensors()
        groups = {
            "model": dict(self.loop.model.named_parameters()),
            "averages": averages,
            "optimizer": self.loop.optimizer.tensors(),
        }
        self.num_commits += 1
        writer.commit([], Checkpoint(groups, {"step": self.num_commits}), best=(self.num_commits, averages))


def facts() -> TrialFacts:
    """Of a trial that is none."""
    words = dict.fromkeys(
        ("trial_id", "config_hash", "objective", "data_hash", "subset_hash", "corpus", "python", "created"), "benchmark"
    )
    counts = dict.fromkeys(
        ("seed", "unique_tokens", "num_params_total", "num_params_active", "num_params_with_embeddings"), 0
    )
    rest = {"config": {}, "is_bound": False, "flops_per_token": 0.0, "git_commit": None, "packages": {}}
    return TrialFacts.model_validate({**words, **counts, **rest})


def measured(name: str, folder: Path, repeats: int) -> dict[str, object]:
    """One row: seconds that a commit takes from the steps, in both ways, in turn."""
    trained = Trained(BareLoop(configuration(*SHAPES[name]), Vocabulary(256)))
    for _ in range(3):
        trained.step()
    waiting = RecordWriter(RecordPaths(folder / "waiting"))
    waiting.paths.root.mkdir()
    with open_record(folder / "going-on", facts()) as going_on:
        for writer in (waiting, going_on):
            trained.commit(writer)  # allocates the host's copies
            writer.wait()
        rows = [_measured_once(trained, waiting, going_on) for _ in range(repeats)]
    in_full, call, lost = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "parameters": name,
        "MB": sum(path.stat().st_size for path in (folder / "going-on").rglob("*.safetensors")) / 2e6,
        "waiting, ms": 1e3 * in_full,
        "waiting, share of a minute": in_full / CHECKPOINTS_EVERY_SECONDS,
        "thread: stall, ms": 1e3 * call,
        "thread: stall, share of a minute": call / CHECKPOINTS_EVERY_SECONDS,
        "thread: lost in all, ms": 1e3 * lost,
        "thread: lost, share of a minute": lost / CHECKPOINTS_EVERY_SECONDS,
        "repeats": repeats,
    }


def _measured_once(trained: Trained, waiting: RecordWriter, going_on: RecordWriter) -> tuple[float, float, float]:
    in_full = seconds_of(lambda: trained.commit(waiting))
    step = statistics.median(seconds_of(trained.step) for _ in range(5))
    num_steps = 1 + int(STEPS_LAST * in_full / step)
    undisturbed = seconds_of(lambda: [trained.step() for _ in range(num_steps)])
    start = time.perf_counter()
    call = seconds_of(lambda: trained.commit(going_on))
    for _ in range(num_steps):
        trained.step()
    going_on.wait()
    return in_full, call, time.perf_counter() - start - undisturbed


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", nargs="*", choices=SHAPES, default=list(SHAPES))
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rows, goals = [], []
    for name in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=OUTPUT) as folder:  # on a disk: /tmp may be memory
            rows.append(measured(name, Path(folder), arguments.repeats))
        share = rows[-1]["thread: stall, share of a minute"]
        assert isinstance(share, float)
        goals.append(Goal(f"share of a minute that a checkpoint stalls the loop, {name}", share, at_most=0.02))
    publish("checkpoint_stall", rows, goals)


if __name__ == "__main__":
    main()
