"""`Searcher`: what every sampler is to the planner, and the registry of all of them.

A new sampler is one file with one `@register_sampler`, imported by the package. A suggestion is a function of the
study's seed, the stratum, the number of the configuration and what is known of the others: never of the order in which
results came, so a resumed study draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from crossover.search_spaces import Scalar, Source

__all__ = ["SAMPLERS", "Known", "SearchRequest", "Searcher", "Settings", "Suggest", "register_sampler", "seed_of"]

Settings: TypeAlias = Mapping[str, Scalar]

Suggest: TypeAlias = Callable[[Source, int | None], Settings]
"""Settings of configuration `number`, asked of a source: a space, bound to one stratum. Without a number grids are
asked of the source as well."""


@dataclass(frozen=True)
class Known:
    """A configuration of an earlier study, and its best validation bits per byte."""

    settings: Settings
    value: float


@dataclass(frozen=True)
class SearchRequest:
    """What is asked of a sampler in one stratum.

    Args:
        suggest: The space, bound to the stratum.
        seed_parts: What names the search: study seed and stratum.
        num_trials: Configurations that the stratum will have at most.
        allowed: Whether a configuration keeps the study's constraints; others are drawn again.
        cost: Training FLOPs of a configuration run to its end: what `nsga2` weighs the loss against.
        known: Configurations of an earlier study, which the sampler learns from and does not suggest for their sake.
        start: Where `coordinate_descent` begins; what it leaves out begins in the middle.
        factor: Ratio of one step of `coordinate_descent`.
    """

    suggest: Suggest
    seed_parts: Sequence[str | int]
    num_trials: int
    allowed: Callable[[Settings], bool] = lambda settings: True
    cost: Callable[[Settings], float] | None = None
    known: Sequence[Known] = ()
    start: Settings = field(default_factory=dict)
    factor: float = 2.0


class Searcher(ABC):
    """Suggests configurations of one stratum. `number` counts configurations from 0."""

    @abstractmethod
    def suggest(self, number: int, attempt: int = 0) -> Settings | None:
        """Settings of configuration `number`; a higher `attempt` draws again.

        It has no effect: `observe` says which suggestion was taken. None: there is nothing to try before a result of
        what runs is told, and nothing at all where every configuration has been told.
        """

    @abstractmethod
    def observe(self, number: int, settings: Settings) -> None:
        """Configuration `number` was taken and has no result yet."""

    @abstractmethod
    def tell(self, number: int, value: float | None) -> None:
        """Configuration `number` has come to its best validation bits per byte, or has failed without one (None).

        A trial that was stopped is told with its best so far; a later call replaces an earlier one.
        """


SAMPLERS: dict[str, Callable[[SearchRequest], Searcher]] = {}


def register_sampler(
    name: str,
) -> Callable[[Callable[[SearchRequest], Searcher]], Callable[[SearchRequest], Searcher]]:
    """Makes a sampler known by name."""

    def register(make: Callable[[SearchRequest], Searcher]) -> Callable[[SearchRequest], Searcher]:
        SAMPLERS[name] = make
        return make

    return register


def seed_of(*parts: str | int) -> int:
    """A 32-bit seed from anything that names what it is for; the same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
