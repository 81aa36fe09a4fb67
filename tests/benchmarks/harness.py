"""What the benchmarks share: repeats, one table on the screen, and the same rows as JSON in build/benchmarks.

Every ratio comes from one run on one machine; its two sides are measured in turn, so that a disturbance hits both.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Goal", "local_ray", "medians_in_turn", "publish"]

OUTPUT = Path(__file__).resolve().parents[2] / "build" / "benchmarks"


@dataclass(frozen=True)
class Goal:
    """What a measured number should be at least or at most; it is reported, never enforced."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the number lies inside its bounds."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{self.name}: {self.value:.3g} (goal {bound}: {'met' if self.is_met else 'MISSED'})"


def seconds_of(action: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def medians_in_turn(actions: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 1) -> dict[str, float]:
    """Median wall seconds of each action, called in turn `repeats` times after `warm_ups` that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(warm_ups + repeats):
        for name, action in actions.items():
            taken = seconds_of(action)
            if repeat >= warm_ups:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def local_ray(folder: Path, num_cpus: int) -> Iterator[None]:
    """A Ray of this process alone, that ends with it and leaves nothing outside `folder`."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=num_cpus, _temp_dir=str(folder), log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _machine() -> dict[str, Any]:
    import torch

    return {
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }


def _shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def publish(name: str, rows: Sequence[Mapping[str, Any]], goals: Sequence[Goal]) -> None:
    """Print the rows as a Markdown table with the goals below, and write build/benchmarks/<name>.json."""
    header = list(rows[0])
    print(f"\n## {name}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(_shown(row[column]) for column in header) + " |")
    print("\n" + "\n".join(str(goal) for goal in goals), flush=True)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine(),
        "rows": [dict(row) for row in rows],
        "goals": [{"goal": str(goal), "value": goal.value, "met": goal.is_met} for goal in goals],
    }
    (OUTPUT / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
