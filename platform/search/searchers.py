"""Which configuration of a stratum is tried next: Optuna's samplers over what the record says of the earlier ones.

Each stratum has its own Optuna study, in memory and rebuilt from the record, so nothing has to be kept in step with it.
The sampler is seeded anew for every suggestion by (study seed, stratum, number): a resumed study goes on with new
points, and with the same ones as if it had never stopped whenever the same results were known.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from crossover.search_spaces import Scalar, Source
from crossover.trainers.errors import ConfigError

__all__ = ["SAMPLERS", "Searcher", "make_searcher", "seed_of"]

Suggest = Callable[[Source, int], Mapping[str, Scalar]]
"""Settings of configuration `number`, asked of a source: a space, bound to one stratum."""

_LEARNED_DRAWS = 8  # after so many repeats of known points in a row, points are drawn at random


def seed_of(*parts: str | int) -> int:
    """A 32-bit seed from anything that names what it is for; the same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


class Searcher(ABC):
    """Suggests configurations of one stratum. `number` counts configurations from 0."""

    @abstractmethod
    def suggest(self, number: int, attempt: int = 0) -> Mapping[str, Scalar] | None:
        """Settings of configuration `number`; a higher `attempt` draws again.

        It has no effect: `observe` says which suggestion was taken. None: there is nothing to try before a result of
        what runs is told, and nothing at all where every configuration has been told.
        """

    @abstractmethod
    def observe(self, number: int, settings: Mapping[str, Scalar]) -> None:
        """Configuration `number` was taken and has no result yet."""

    @abstractmethod
    def tell(self, number: int, value: float | None) -> None:
        """Configuration `number` has ended: its best validation bits per byte, or None where it has none."""


class OptunaSearcher(Searcher):
    """An Optuna sampler; a configuration that runs counts as a bad one (constant liar), so others go elsewhere."""

    def __init__(self, suggest: Suggest, seed_parts: Sequence[str | int], make: Callable[[int], BaseSampler]) -> None:
        self._suggest = suggest
        self._seed_parts = tuple(seed_parts)
        self._make = make
        self._trials: dict[int, FrozenTrial] = {}

    def suggest(self, number: int, attempt: int = 0) -> Mapping[str, Scalar]:
        """Asks a throw-away study, so that a draw that is not taken leaves no trace."""
        seed = seed_of(*self._seed_parts, number, attempt)
        learning = attempt < _LEARNED_DRAWS
        study = _memory_study(self._make(seed) if learning else RandomSampler(seed=seed))
        if learning:
            study.add_trials(self._trials.values())
        return self._suggest(_OptunaSource(study.ask()), number)

    def observe(self, number: int, settings: Mapping[str, Scalar]) -> None:
        """Adds it as running."""
        replay = _Replay(settings)
        self._suggest(replay, number)
        self._trials[number] = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=replay.params, distributions=replay.distributions
        )

    def tell(self, number: int, value: float | None) -> None:
        """Completes it, or marks it failed where it has no value: samplers leave it out then."""
        known = self._trials[number]
        self._trials[number] = optuna.trial.create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            value=value,
            params=known.params,
            distributions=known.distributions,
        )


def _tpe(num_trials: int) -> Callable[[int], BaseSampler]:
    # A third of the trials at random, 3 to Optuna's 10: with its default a stratum of 12 would be nearly all random.
    num_startup = max(3, min(10, num_trials // 3))

    def make(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=num_startup
            )

    return make


SAMPLERS = ("tpe", "random")


def make_searcher(sampler: str, suggest: Suggest, seed_parts: Sequence[str | int], num_trials: int) -> Searcher:
    """The searcher of one stratum.

    Args:
        sampler: one of `SAMPLERS`; grids need none, a space visits them by number.
        suggest: the space, bound to the stratum.
        seed_parts: what names the search: study seed and stratum.
        num_trials: configurations that the stratum will have.

    Raises:
        ConfigError: no such sampler.
    """
    if sampler == "random":
        return OptunaSearcher(suggest, seed_parts, lambda seed: RandomSampler(seed=seed))
    if sampler == "tpe":
        return OptunaSearcher(suggest, seed_parts, _tpe(num_trials))
    raise ConfigError(f"search.sampler = {sampler} is unknown: set one of {', '.join(SAMPLERS)}")


def _memory_study(sampler: BaseSampler) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(sampler=sampler, direction="minimize")
    finally:
        optuna.logging.set_verbosity(verbosity)


class _OptunaSource:
    """A live Optuna trial, seen as a source."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        return self._trial.suggest_categorical(name, choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)


class _Replay:
    """Gives back settings that are known, and keeps the distributions that they are asked from."""

    def __init__(self, settings: Mapping[str, Scalar]) -> None:
        self._settings = settings
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def _given(self, name: str, distribution: BaseDistribution) -> Any:
        self.params[name] = self._settings[name]
        self.distributions[name] = distribution
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        value: Scalar = self._given(name, CategoricalDistribution(tuple(choices)))
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._given(name, FloatDistribution(low, high, log=log)))

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self._given(name, IntDistribution(low, high)))
