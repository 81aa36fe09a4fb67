"""Rows and decisions for tests."""

from __future__ import annotations

from typing import Any

from crossover.platform.execution.decisions import Suggested
from crossover.trainers.rows import Evaluation


def suggested(trial_id: str = "a", **changes: Any) -> Suggested:
    values: dict[str, Any] = {
        "number": 0,
        "stratum": {"objective.name": "autoregressive"},
        "stratum_label": "objective=autoregressive",
        "settings": {"optimizer.learning_rate": 0.001},
        "repeat": 0,
        "config_hash": "c",
        "purpose": "search",
    }
    return Suggested(trial_id=trial_id, **{**values, **changes})


def evaluation(step: int, val_loss: float, best: float, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {name: 0.0 for name, field in Evaluation.model_fields.items() if field.annotation is float}
    values |= dict.fromkeys(("train_loss", "raw_val_loss", "grad_norm", "tokens_per_second", "mfu"))
    values |= {
        "step": step,
        "epoch": float(step),
        "tokens_seen": 100 * step,
        "unique_tokens": 100,
        "train_flops": 1000.0 * step,
        "eval_flops": 10.0 * step,
        "val_loss": val_loss,
        "val_bits_per_byte": val_loss * 2,
        "val_bits_per_byte_se": 0.01,
        "best_val_loss": best,
        "peak_memory_bytes": 1,
        "precision": "float32",
        "device": "a test",
    }
    return Evaluation(**{**values, **changes})
