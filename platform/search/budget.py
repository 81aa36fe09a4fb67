"""What a study has spent, and what a trial will cost before it runs.

FLOPs are counted exactly, training and evaluation; wall time is the drivers', attempts added up. Both come from the
record and the decisions, so that a resumed study knows what was spent before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from crossover.platform.execution.decisions import Decision

__all__ = ["Budget", "attempt_seconds"]


def attempt_seconds(attempts: Iterable[Sequence[Decision]]) -> float:
    """Seconds from the first to the last decision of each attempt; one that was killed may have run longer."""
    return sum((lines[-1].time - lines[0].time).total_seconds() for lines in attempts if lines)


@dataclass
class Budget:
    """Limits, and what has been spent of them.

    Args:
        flops: limit on FLOPs of training and evaluation; None: none.
        wall_seconds: limit on the drivers' wall time; None: none.
        earlier_seconds: wall time of earlier attempts.
        started: when this attempt started.
    """

    flops: float | None
    wall_seconds: float | None
    earlier_seconds: float = 0.0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _flops_of: dict[str, float] = field(default_factory=dict)

    def note(self, trial_id: str, flops: float) -> None:
        """A trial has spent this many FLOPs in all. What was computed and lost with a fault is not taken back."""
        self._flops_of[trial_id] = max(flops, self._flops_of.get(trial_id, 0.0))

    @property
    def spent_flops(self) -> float:
        """FLOPs of all trials so far."""
        return sum(self._flops_of.values())

    @property
    def spent_seconds(self) -> float:
        """Wall time of all attempts so far."""
        return self.earlier_seconds + (datetime.now(UTC) - self.started).total_seconds()

    def exhausted(self) -> str | None:
        """Which limit is reached, with its numbers; None: none."""
        if self.flops is not None and self.spent_flops >= self.flops:
            return f"budget.flops: {self.spent_flops:.3g} of {self.flops:.3g} FLOPs are spent"
        if self.wall_seconds is not None and self.spent_seconds >= self.wall_seconds:
            return f"budget.wall_seconds: {self.spent_seconds:.0f} of {self.wall_seconds:.0f} seconds are spent"
        return None

    def fraction_spent(self) -> float | None:
        """Share of the limit that is nearest to being reached; None without limits."""
        shares = []
        if self.flops is not None:
            shares.append(self.spent_flops / self.flops)
        if self.wall_seconds is not None:
            shares.append(self.spent_seconds / self.wall_seconds)
        return min(1.0, max(shares)) if shares else None
