"""Rows, facts and checkpoints to write records with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.checkpoint import Checkpoint
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.rows import Evaluation, TrialFacts


def facts(**changes: object) -> TrialFacts:
    values: dict[str, object] = {
        "trial_id": "a" * 16,
        "config_hash": "b" * 16,
        "config": {"seed": 0},
        "objective": "autoregressive",
        "is_bound": False,
        "seed": 0,
        "data_hash": "c",
        "subset_hash": "d",
        "corpus": "tiny",
        "unique_tokens": 100,
        "num_params_total": 1,
        "num_params_active": 1,
        "num_params_with_embeddings": 1,
        "flops_per_token": 6.0,
        "git_commit": None,
        "packages": {"torch": "2"},
        "python": "3.11",
        "created": "2026-01-01T00:00:00+00:00",
    }
    return TrialFacts.model_validate(values | changes)


def row(step: int, val_loss: float = 2.0, **changes: object) -> Evaluation:
    values: dict[str, object] = {
        "step": step,
        "epoch": step / 10,
        "tokens_seen": 10 * step,
        "unique_tokens": 100,
        "train_flops": 60.0 * step,
        "train_flops_6nd": 60.0 * step,
        "eval_flops": 2.0 * step,
        "wall_seconds": 0.1 * step,
        "eval_seconds": 0.01 * step,
        "train_loss": 1 / 3,
        "val_loss": val_loss,
        "val_loss_se": 0.1,
        "val_loss_se_mc": 0.0,
        "val_bits_per_byte": val_loss / np.log(2),
        "val_bits_per_byte_se": 0.1,
        "rise_over_best": 0.0,
        "rise_over_best_se": 0.0,
        "best_val_loss": val_loss,
        "raw_val_loss": None,
        "learning_rate": 1e-3,
        "grad_norm": 0.7,
        "tokens_per_second": None,
        "mfu": None,
        "peak_memory_bytes": 2**40,
        "precision": "float32",
        "device": "a processor",
    }
    return Evaluation.model_validate(values | changes)


def rows(count: int) -> list[Evaluation]:
    """Each is a new best."""
    return [row(step, val_loss=3.0 - 0.1 * step) for step in range(1, count + 1)]


def weights(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3,), float(step))}


def window_nats(step: int) -> NDArray[np.float32]:
    return np.full(4, step, dtype=np.float32)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"model": weights(step), "optimizer": {}, "averages": weights(step)}, {"step": step})


def commit_rows(writer: RecordWriter, count: int, first: int = 1) -> None:
    """One commit a row, each a new best."""
    for n in range(first, count + 1):
        writer.commit(rows(n), checkpoint(n), window_nats={n: window_nats(n)}, best=(n, weights(n)))


def written(path: Path) -> Path:
    """A record of three evaluations, each a new best."""
    with open_record(path, facts()) as writer:
        assert writer.restore() is None
        commit_rows(writer, 3)
    return path


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: list[Callable[[Path], None]] = [flip_a_bit, truncate, Path.unlink]
