"""What a study has spent, and what it may spend: in all, and in every stratum.

FLOPs are counted exactly, training and evaluation, and what running trials need to end is kept for them: a limit is
exceeded by what they train until they hear of it, and by nothing else. Wall time is the drivers', attempts added up;
device-hours are those of legs, from start to end. All come from the record and the decisions, so a resumed study knows
what was spent before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from crossover.platform.execution.decisions import Decision, LegEnded, LegStarted

__all__ = ["Budget", "attempt_seconds", "leg_seconds"]


def attempt_seconds(attempts: Iterable[Sequence[Decision]]) -> float:
    """Seconds from the first to the last decision of each attempt; one that was killed may have run longer."""
    return sum((lines[-1].time - lines[0].time).total_seconds() for lines in attempts if lines)


def leg_seconds(attempts: Iterable[Sequence[Decision]]) -> float:
    """Seconds of all legs; one that was cut off with its driver lasts to the last decision of that attempt."""
    seconds = 0.0
    for lines in attempts:
        started: dict[str, datetime] = {}
        for line in lines:
            if isinstance(line, LegStarted):
                started[line.trial_id] = line.time
            elif isinstance(line, LegEnded) and line.trial_id in started:
                seconds += (line.time - started.pop(line.trial_id)).total_seconds()
        seconds += sum((lines[-1].time - start).total_seconds() for start in started.values())
    return seconds


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Budget:
    """Limits, and what has been spent of them.

    Args:
        flops: limit on FLOPs of training and evaluation; None: none.
        wall_seconds: limit on the drivers' wall time; None: none.
        earlier_seconds: wall time of earlier attempts.
        started: when this attempt started.
        device_hours: limit on the hours of all devices; None: none.
        devices: devices of one leg.
        earlier_leg_seconds: seconds of legs of earlier attempts.
        shares: part of `flops` that each stratum may spend, by its label; empty: strata share what there is.
        now: the clock; a simulation has its own.
    """

    flops: float | None
    wall_seconds: float | None
    earlier_seconds: float = 0.0
    started: datetime | None = None
    device_hours: float | None = None
    devices: float = 1.0
    earlier_leg_seconds: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    now: Callable[[], datetime] = _now
    _flops_of: dict[str, float] = field(default_factory=dict)
    _stratum_of: dict[str, str] = field(default_factory=dict)
    _to_end: dict[str, float] = field(default_factory=dict)
    _spent: float = 0.0
    _spent_in: dict[str, float] = field(default_factory=dict)
    _legs: dict[str, datetime] = field(default_factory=dict)
    _leg_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.started or self.now()

    def place(self, trial_id: str, stratum: str) -> None:
        """A trial belongs to a stratum, which pays for it; the first one that asks for it."""
        if trial_id not in self._stratum_of:
            self._stratum_of[trial_id] = stratum
            self._spent_in[stratum] = self._spent_in.get(stratum, 0.0) + self._flops_of.get(trial_id, 0.0)

    def note(self, trial_id: str, flops: float, to_end: float = 0.0) -> None:
        """A trial has spent this many FLOPs in all. What was computed and lost with a fault is not taken back.

        Args:
            trial_id: of the trial.
            flops: of training and evaluation.
            to_end: FLOPs that it would spend on its last evaluation and its test if it were asked to end now.
        """
        self._to_end.pop(trial_id, None)
        if to_end:
            self._to_end[trial_id] = to_end
        more = max(0.0, flops - self._flops_of.get(trial_id, 0.0))
        self._flops_of[trial_id] = self._flops_of.get(trial_id, 0.0) + more
        self._spent += more
        if (stratum := self._stratum_of.get(trial_id)) is not None:
            self._spent_in[stratum] += more

    def leg_started(self, trial_id: str) -> None:
        """Devices are taken."""
        self._legs[trial_id] = self.now()

    def leg_ended(self, trial_id: str) -> None:
        """Devices are given back."""
        if (start := self._legs.pop(trial_id, None)) is not None:
            self._leg_seconds += (self.now() - start).total_seconds()

    @property
    def spent_flops(self) -> float:
        """FLOPs of all trials so far."""
        return self._spent

    def spent_flops_in(self, stratum: str) -> float:
        """FLOPs of a stratum's trials so far."""
        return self._spent_in.get(stratum, 0.0)

    @property
    def spent_seconds(self) -> float:
        """Wall time of all attempts so far."""
        assert self.started is not None
        return self.earlier_seconds + (self.now() - self.started).total_seconds()

    @property
    def spent_device_hours(self) -> float:
        """Hours of all devices so far."""
        now = self.now()
        running = sum((now - start).total_seconds() for start in self._legs.values())
        return self.devices * (self.earlier_leg_seconds + self._leg_seconds + running) / 3600

    def exhausted(self, stratum: str | None = None) -> str | None:
        """Which limit is reached, with its numbers; None: none.

        Args:
            stratum: asks for this stratum's share alone; None: for the whole study.
        """
        if stratum is not None:
            return self._share_exhausted(stratum)
        kept = sum(self._to_end.values())
        if self.flops is not None and self.spent_flops < self.flops <= self.spent_flops + kept:
            return f"budget.flops: {self.spent_flops:.3g} of {self.flops:.3g} FLOPs are spent, {_kept(kept)}"
        for name, spent, limit, unit, figures in self._limits():
            if limit is not None and spent >= limit:
                return f"budget.{name}: {spent:{figures}} of {limit:{figures}} {unit} are spent"
        return None

    def fraction_spent(self) -> float | None:
        """Share of the limit that is nearest to being reached; None without limits."""
        shares = [spent / limit for _, spent, limit, _, _ in self._limits() if limit is not None]
        return min(1.0, max(shares)) if shares else None

    def _limits(self) -> tuple[tuple[str, float, float | None, str, str], ...]:
        return (
            ("flops", self.spent_flops, self.flops, "FLOPs", ".3g"),
            ("wall_seconds", self.spent_seconds, self.wall_seconds, "seconds", ".0f"),
            ("device_hours", self.spent_device_hours, self.device_hours, "device-hours", ".3g"),
        )

    def _share_exhausted(self, stratum: str) -> str | None:
        if self.flops is None or stratum not in self.shares:
            return None
        limit, spent = self.flops * self.shares[stratum], self.spent_flops_in(stratum)
        kept = sum(flops for trial_id, flops in self._to_end.items() if self._stratum_of.get(trial_id) == stratum)
        if spent + kept < limit:
            return None
        share = f"{self.shares[stratum]:.0%} of budget.flops"
        words = f"{share}: {spent:.3g} of the {limit:.3g} FLOPs of stratum {stratum} are spent"
        return words if spent >= limit else f"{words}, {_kept(kept)}"


def _kept(flops: float) -> str:
    return f"and running trials need {flops:.3g} to end"
