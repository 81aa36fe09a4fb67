"""A configuration with nothing but what has no default, and changes to it."""

from __future__ import annotations

from typing import Any

from crossover.trainers.config import TrialConfig, config_from_dotted

GOOD: dict[str, Any] = {
    "data.corpus": "python-stdlib",
    "data.unique_tokens": 1000,
    "model.size": "400k",
    "objective.name": "autoregressive",
    "schedule.epochs": 2,
}


def config(**changes: Any) -> TrialConfig:
    """`__` stands for a dot."""
    return config_from_dotted(GOOD | {name.replace("__", "."): value for name, value in changes.items()})
