"""A cohort: the trials that are compared, with what a decision about 10,000 of them needs at hand.

Configurations are compared, not trials: repeats of one are decided together, on the mean of their values. The value at
a rung is the best so far of the decision metric; an ended trial keeps its best one at every later rung.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from crossover.platform.search.rungs import Horizon

__all__ = ["Cohort", "Configuration", "CurvePoint", "Key", "Reached", "Standing"]

Key = tuple[str, int]
"""Stratum and number of a configuration."""


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation: tokens seen, validation bits per byte, FLOPs of training and evaluation so far."""

    tokens: int
    value: float
    flops: float


@dataclass(frozen=True)
class Reached:
    """What a trial had when it paused at a rung.

    Args:
        value: best validation bits per byte so far; None where none is finite.
        flops: spent on training and evaluation.
    """

    value: float | None
    flops: float


@dataclass(frozen=True)
class Standing:
    """Where one trial of a cohort stands.

    Args:
        trial_id: identity of the trial.
        stratum: label of its stratum.
        number: number of its configuration within the stratum; repeats share it and are decided on their mean.
        repeat: which repeat it is.
        config_hash: of its configuration, which breaks ties.
        state: "waiting" for a worker or for its rung, "running", "paused" at its rung, or "ended".
        value: best validation bits per byte so far; None where nothing is known.
        reached: what it had at each rung where it paused, the first one first.
        passed: rungs that it went past by a decision.
        held: why it stays at the rung where it is; None: that rung is not decided yet.
        failed: it ended by an error or by diverging.
        complete: it came to its own end: no rung, budget or error stopped it.
        flops: FLOPs of training and evaluation so far.
        max_tokens: tokens that it would have seen in the end.
        curve: its evaluations, oldest first.
    """

    trial_id: str
    stratum: str
    number: int
    repeat: int
    config_hash: str
    state: Literal["waiting", "running", "paused", "ended"]
    value: float | None = None
    reached: tuple[Reached, ...] = ()
    passed: int = 0
    held: str | None = None
    failed: bool = False
    complete: bool = False
    flops: float = 0.0
    max_tokens: int = 0
    curve: Sequence[CurvePoint] = ()

    @property
    def key(self) -> Key:
        """Its configuration."""
        return self.stratum, self.number

    @property
    def is_undecided(self) -> bool:
        """It waits at a rung that nobody has decided."""
        return self.state == "paused" and self.held is None

    def value_at(self, rung: int) -> float | None:
        """Best value so far when it came to a rung; of a trial that ended before, its best."""
        return self.reached[rung].value if rung < len(self.reached) else self.value

    def flops_at(self, rung: int) -> float:
        """FLOPs that it had spent when it came to a rung; of a trial that did not, all of them."""
        return self.reached[rung].flops if rung < len(self.reached) else self.flops


@dataclass(frozen=True)
class Configuration:
    """The repeats of one configuration."""

    members: tuple[Standing, ...]

    @property
    def key(self) -> Key:
        """Stratum and number."""
        return self.members[0].key

    @property
    def config_hash(self) -> str:
        """Breaks ties."""
        return self.members[0].config_hash

    @property
    def passed(self) -> int:
        """Rungs that it went past."""
        return max(member.passed for member in self.members)

    @property
    def paused(self) -> tuple[Standing, ...]:
        """Repeats that wait at a rung."""
        return tuple(member for member in self.members if member.state == "paused")

    @property
    def failed(self) -> bool:
        """No repeat of it can go on, by an error or by diverging."""
        return all(member.failed for member in self.members)

    @property
    def flops(self) -> float:
        """FLOPs of all repeats."""
        return sum(member.flops for member in self.members)

    def flops_at(self, rung: int) -> float:
        """FLOPs that the repeats had spent when they came to a rung."""
        return sum(member.flops_at(rung) for member in self.members)

    def has_reached(self, rung: int) -> bool:
        """A repeat came to the rung, and every other one came there or ended."""
        there = [len(member.reached) > rung for member in self.members]
        return any(there) and all(t or m.state == "ended" for t, m in zip(there, self.members, strict=True))

    def value_at(self, rung: int) -> float:
        """Mean over the repeats that have a value; infinite where none has."""
        values = [value for member in self.members if (value := member.value_at(rung)) is not None]
        return fmean(values) if values else math.inf

    def rank(self, rung: int) -> tuple[float, str, Key]:
        """Orders configurations at a rung, the best first: ties by configuration hash."""
        return self.value_at(rung), self.config_hash, self.key


@dataclass
class Cohort:
    """Trials that are decided together.

    Args:
        size: configurations that it has, or will have.
        horizon: how far its trials can go.
        first: number of its first configuration.
        repeats: repeats of a configuration.
        earlier: cohorts of its stratum that were decided before it was drawn.
    """

    size: int
    horizon: Horizon
    first: int = 0
    repeats: int = 1
    earlier: Sequence[Cohort] = ()
    _standings: dict[str, Standing] = field(default_factory=dict)
    _members: dict[Key, dict[int, str]] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)
    _undecided: dict[str, None] = field(default_factory=dict)
    _paused: dict[str, None] = field(default_factory=dict)
    _waiting: dict[int, set[Key]] = field(default_factory=dict)
    _waits_at: dict[Key, int] = field(default_factory=dict)
    _ranks: list[list[tuple[float, str, Key]]] = field(default_factory=list)
    _values: list[dict[str, float]] = field(default_factory=list)
    _ranked: dict[tuple[Key, int], tuple[float, str, Key]] = field(default_factory=dict)

    def put(self, standing: Standing) -> None:
        """Takes up what is known of a trial now."""
        trial_id = standing.trial_id
        self._standings[trial_id] = standing
        self._members.setdefault(standing.key, {})[standing.repeat] = trial_id
        (self._moving.add if standing.state in ("waiting", "running") else self._moving.discard)(trial_id)
        _place(self._undecided, trial_id, standing.is_undecided)
        _place(self._paused, trial_id, standing.state == "paused")
        self._note_values(standing)
        configuration = self.configuration(standing.key)
        self._note_waiting(configuration)
        self._rank(configuration)

    @property
    def is_settled(self) -> bool:
        """Every trial waits at its rung or has ended."""
        return not self._moving

    @property
    def num_paused(self) -> int:
        """Trials that wait at a rung."""
        return len(self._paused)

    @property
    def standings(self) -> list[Standing]:
        """Every trial."""
        return list(self._standings.values())

    @property
    def undecided(self) -> list[Standing]:
        """Trials at a rung that nobody has decided, in the order in which they came."""
        return [self._standings[trial_id] for trial_id in self._undecided]

    @property
    def paused(self) -> list[Standing]:
        """Trials that wait at a rung."""
        return [self._standings[trial_id] for trial_id in self._paused]

    @property
    def configurations(self) -> list[Configuration]:
        """Every configuration."""
        return [self.configuration(key) for key in self._members]

    def standing(self, trial_id: str) -> Standing:
        """The trial of that id."""
        return self._standings[trial_id]

    def configuration(self, key: Key) -> Configuration:
        """The configuration of a stratum and number."""
        return Configuration(tuple(self._standings[trial_id] for trial_id in self._members[key].values()))

    def ranking(self, rung: int) -> Sequence[tuple[float, str, Key]]:
        """Configurations whose repeats came to a rung, the best first: value, configuration hash, key."""
        return self._ranks[rung] if rung < len(self._ranks) else ()

    def trial_values(self, rung: int, without: Set[str]) -> list[float]:
        """Values of all trials that came to a rung with one, but of these."""
        if rung >= len(self._values):
            return []
        values = self._values[rung]
        apart = {trial_id: values.pop(trial_id) for trial_id in without if trial_id in values}
        found = list(values.values())
        values.update(apart)
        return found

    def waiting_at(self, rung: int) -> Set[Key]:
        """Configurations of which a repeat waits at a rung."""
        return self._waiting.get(rung, set())

    def _note_values(self, standing: Standing) -> None:
        for rung, reached in enumerate(standing.reached):
            while len(self._values) <= rung:
                self._values.append({})
            if reached.value is not None:
                self._values[rung][standing.trial_id] = reached.value

    def _note_waiting(self, configuration: Configuration) -> None:
        key, rung = configuration.key, configuration.passed if configuration.paused else None
        if (before := self._waits_at.pop(key, None)) is not None:
            self._waiting[before].discard(key)
        if rung is not None:
            self._waiting.setdefault(rung, set()).add(key)
            self._waits_at[key] = rung

    def _rank(self, configuration: Configuration) -> None:
        if len(configuration.members) < self.repeats:
            return
        key = configuration.key
        for rung in range(max(len(member.reached) for member in configuration.members)):
            if not configuration.has_reached(rung):
                continue
            while len(self._ranks) <= rung:
                self._ranks.append([])
            rank, before = configuration.rank(rung), self._ranked.get((key, rung))
            if rank == before:
                continue
            if before is not None:
                del self._ranks[rung][bisect_left(self._ranks[rung], before)]
            insort(self._ranks[rung], rank)
            self._ranked[key, rung] = rank


def _place(places: dict[str, None], trial_id: str, belongs: bool) -> None:
    if belongs:
        places.setdefault(trial_id)
    else:
        places.pop(trial_id, None)
