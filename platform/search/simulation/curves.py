"""Where simulated trials get their losses from: one interface, laws by name, recorded curves from a file.

A curve is what a trial would show were it evaluated at some epochs. It depends on the trial's settings and on the
simulated world (one for each seed), never on who decides, so every scheduler meets the same trials.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crossover.platform.study import Study, StudyError
from crossover.search_spaces import Axis, Scalar
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError

__all__ = ["Curve", "Curves", "Floats", "Law", "Traits", "get_law", "law_names", "register_law"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Traits:
    """What a curve may depend on.

    Args:
        config: of the trial, its seeds included.
        scientific: its scientific settings, labels included, by dotted path.
        nuisance: its nuisance settings.
        axes: of the study.
        repeat: which seed.
        num_params: parameters in matrix products.
        trial_id: of configuration and seeds: what is random in one trial and no other.
        world: number of the simulated world: what is random in a whole simulation.
    """

    config: TrialConfig
    scientific: Mapping[str, Scalar]
    nuisance: Mapping[str, Scalar]
    axes: Mapping[str, Axis]
    repeat: int
    num_params: int
    trial_id: str
    world: int

    def draw(self, *purpose: object) -> np.random.Generator:
        """Random numbers of this world; the same for all its trials, unless `purpose` tells them apart."""
        words = repr((self.world, *purpose)).encode()
        return np.random.default_rng(list(words))


@dataclass(frozen=True)
class Curve:
    """The life of one trial.

    Args:
        nats: validation loss at these epochs, without noise, nats per token.
        noise: standard deviation of one evaluation about it.
        error: standard error of a rise over the best, as the trial would report it.
        bits_per_nat: bits per byte of one nat per token.
    """

    nats: Callable[[Floats], Floats]
    noise: float
    error: float
    bits_per_nat: float = 1 / np.log(2)


class Curves(ABC):
    """Answers with the curve of any trial of a study."""

    @abstractmethod
    def check(self, study: Study) -> None:
        """Refuses a study whose trials have no curves here.

        Raises:
            StudyError: an axis means nothing here, or no curve is like a stratum.
        """

    @abstractmethod
    def curve(self, traits: Traits) -> Curve:
        """The curve of one trial."""


class Law(Curves):
    """Curves from formulas. `known` are the settings that they follow; others may not vary."""

    name: ClassVar[str] = ""
    known: ClassVar[frozenset[str]] = frozenset()

    def check(self, study: Study) -> None:
        """Axes that the law does not know would seem to have no effect."""
        unknown = [path for path in study.axes if path not in self.known and path not in study.labels]
        if unknown:
            listed = ", ".join(sorted(self.known))
            raise StudyError(
                f"study {study.name}",
                [
                    f"axes.{path}: the law {self.name} does not know it, so it would seem to have no effect; it "
                    f"knows {listed}: remove the axis, or simulate with recorded curves (--curves FILE)"
                    for path in unknown
                ],
            )


_LAWS: dict[str, type[Law]] = {}


def register_law(name: str) -> Callable[[type[Law]], type[Law]]:
    """Makes a law known by name."""

    def register(law: type[Law]) -> type[Law]:
        law.name = name
        _LAWS[name] = law
        return law

    return register


def law_names() -> tuple[str, ...]:
    """Names of all laws."""
    return tuple(sorted(_LAWS))


def get_law(name: str) -> Law:
    """The law of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in _LAWS:
        raise ConfigError(f"--curves {name}: no law of that name, and no file: give one of {', '.join(law_names())}")
    return _LAWS[name]()
