"""Tiny runs, and places for them to run in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.storage import PublishedRecord

OF_THE_CLOCK = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}

AUTOREGRESSIVE = {
    "objective.name": "autoregressive",
    "regularization.input_noise": 0.1,
    "regularization.attention_dropout": 0.1,
    "averaging.horizon_fraction": 0.2,
}
MASKED_DIFFUSION = {"objective.name": "masked_diffusion", "optimizer.name": "muon", "schedule.name": "wsd"}
OBJECTIVES = [AUTOREGRESSIVE, MASKED_DIFFUSION]


def config(corpus: Path, **settings: object) -> TrialConfig:
    """20 steps and 8 evaluations, with dropout, of a model of 10k parameters; `__` stands for a dot."""
    values: dict[str, object] = {
        "data.corpus": str(corpus),
        "data.unique_tokens": 250,
        "data.sequence_length": 16,
        "model.num_layers": 1,
        "model.width": 32,
        "objective.name": "autoregressive",
        "schedule.epochs": 5,
        "schedule.batch_size": 4,
        "schedule.warmup_steps": 2,
        "optimizer.learning_rate": 1e-2,
        "regularization.dropout": 0.1,
        "evaluation.validation_windows": 24,
        "evaluation.test_windows": 24,
        "execution.threads": 1,
        "execution.precision": "float32",
        "checkpoint.min_interval_seconds": 0.0,
        "checkpoint.poll_seconds": 1e-9,
        "seed": 3,
    }
    return config_from_dotted(values | {name.replace("__", "."): value for name, value in settings.items()})


@dataclass
class ScriptedRun:
    """Remembers what it was told, and answers what the test wants."""

    directory: Path
    until_tokens: int | None = None
    published: PublishedRecord | None = None
    answer: Callable[[Progress], StopRequest | None] = lambda progress: None
    evaluations: list[Evaluation] = field(default_factory=list)
    asked: list[Progress] = field(default_factory=list)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def should_stop(self, progress: Progress) -> StopRequest | None:
        self.asked.append(progress)
        return self.answer(progress)


def bits(rows: Sequence[Evaluation]) -> list[dict[str, object]]:
    """All columns but those of the clock, floats by their bits: NaN equals NaN, and -0.0 is not 0.0."""
    return [
        {
            name: struct.pack("d", value) if isinstance(value, float) else value
            for name, value in row.model_dump(exclude=OF_THE_CLOCK).items()
        }
        for row in rows
    ]
