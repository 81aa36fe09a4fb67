"""Optuna's samplers: TPE, Gaussian process, NSGA-II and random search.

Each stratum has its own Optuna study, in memory and rebuilt from the record, so nothing has to be kept in step with it.
Every suggestion is asked of a new sampler, seeded by (study seed, stratum, number): samplers remember (GPSampler its
last kernel, NSGA-II its last parents), and what they remember would be lost with the driver.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from crossover.platform.search.searchers.base import Searcher, SearchRequest, Settings, register_sampler, seed_of
from crossover.platform.search.searchers.history import History
from crossover.platform.search.searchers.sources import Replay
from crossover.search_spaces import Scalar
from crossover.trainers.errors import ConfigError

__all__ = ["OptunaSearcher", "ParetoSearcher"]

_LEARNED_DRAWS = 8  # after so many repeats of known points or breaks of a constraint, points are drawn at random
_REDRAWS = 1_000  # of one suggestion, until a stratum counts as having no allowed configuration left
_REDRAWS_OF_POINT = 50  # at one point of the grids, until the next point is tried


class OptunaSearcher(Searcher):
    """An Optuna sampler; a configuration that runs counts as a bad one (constant liar), so others go elsewhere.

    Args:
        request: What is searched.
        make: A sampler from a seed.
        learns: Whether it reads results.
        cost: A second value of every trial, known from its settings.
    """

    def __init__(
        self,
        request: SearchRequest,
        make: Callable[[int], BaseSampler],
        *,
        learns: bool = True,
        cost: Callable[[Settings], float] | None = None,
    ) -> None:
        self._request = request
        self._make = make
        self._learns = learns
        self._cost = cost
        self._history = History(1 if cost is None else 2)
        self._settings: dict[int, Settings] = {}
        if learns:
            for number, known in enumerate(request.known):
                self._put(number, known.settings, TrialState.COMPLETE, known.value)

    def suggest(self, number: int, attempt: int = 0) -> Settings | None:
        """Asks for a draft, so that a draw that is not taken leaves no trace."""
        for redraw in range(_REDRAWS):
            settings = self._draw(number, attempt, redraw)
            if self._request.allowed(settings):
                return settings
        return None

    def observe(self, number: int, settings: Settings) -> None:
        """Adds it as running."""
        self._settings[number] = settings
        if self._learns:
            self._put(self._at(number), settings, TrialState.RUNNING, None)

    def tell(self, number: int, value: float | None) -> None:
        """Completes it, or marks it failed where it has no value: samplers leave it out then."""
        if self._learns:
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self._put(self._at(number), self._settings[number], state, value)

    def _at(self, number: int) -> int:
        return len(self._request.known) + number

    def _put(self, at: int, settings: Settings, state: TrialState, value: float | None) -> None:
        replay = Replay(settings)
        self._request.suggest(replay, max(0, at - len(self._request.known)))
        values = None
        if value is not None:
            values = [value] if self._cost is None else [value, self._cost(settings)]
        self._history.put(at, replay.params, replay.distributions, values, state)

    def _draw(self, number: int, attempt: int, redraw: int) -> Settings:
        seed = seed_of(*self._request.seed_parts, number, attempt, *([redraw] if redraw else []))
        learning = self._learns and attempt + redraw < _LEARNED_DRAWS
        sampler = self._make(seed) if learning else RandomSampler(seed=seed)
        self._history.draft(self._at(number))
        try:
            trial = _study(self._history, sampler).ask()
            return self._request.suggest(_OptunaSource(trial), number + redraw // _REDRAWS_OF_POINT)
        finally:
            self._history.drop_draft()


@register_sampler("tpe")
def _tpe(request: SearchRequest) -> Searcher:
    def make(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=_num_startup(request.num_trials),
            )

    return OptunaSearcher(request, make)


@register_sampler("gp")
def _gp(request: SearchRequest) -> Searcher:
    """Running trials enter its acquisition function (q-batch log expected improvement)."""

    def make(seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=_num_startup(request.num_trials), warn_independent_sampling=False)

    return OptunaSearcher(request, make)


@register_sampler("nsga2")
class ParetoSearcher(OptunaSearcher):
    """NSGA-II: loss against training FLOPs, those of the whole run, which are known before it starts.

    Raises:
        ConfigError: FLOPs are not counted.
    """

    def __init__(self, request: SearchRequest) -> None:
        if request.cost is None:
            raise ConfigError(
                "search.sampler = nsga2 weighs the loss against FLOPs, and here none are counted: set tpe"
            )
        self._population_size = _population_size(request.num_trials)
        axes = IntersectionSearchSpace()
        super().__init__(
            request,
            lambda seed: _NumberedNSGAII(axes, seed, self._population_size),
            cost=request.cost,
        )

    def _put(self, at: int, settings: Settings, state: TrialState, value: float | None) -> None:
        super()._put(at, settings, state, value)
        parents = self._history.attributes
        for key in [key for key in parents if int(key.rpartition(":")[2]) > at // self._population_size]:
            del parents[key]  # Optuna keeps the parents of a generation once they are chosen: these are stale


@register_sampler("random")
def _random(request: SearchRequest) -> Searcher:
    return OptunaSearcher(request, lambda seed: RandomSampler(seed=seed), learns=False)


def _num_startup(num_trials: int) -> int:
    """A third of the trials at random, 3 to Optuna's 10, with which a stratum of 12 would be nearly all random."""
    return max(3, min(10, num_trials // 3))


def _population_size(num_trials: int) -> int:
    """Four generations at least, of 4 to Optuna's 50 configurations."""
    return max(4, min(50, num_trials // 4))


class _NumberedNSGAII(NSGAIISampler):
    """A generation is a run of numbers, not of arrivals: Optuna's own depends on when results came.

    Args:
        axes: Axes that all trials have; shared, since it reads each trial once.
        seed: Of this suggestion.
        population_size: Configurations of a generation.
    """

    def __init__(self, axes: IntersectionSearchSpace, seed: int, population_size: int) -> None:
        super().__init__(seed=seed, population_size=population_size)
        self._axes = axes
        self._size = population_size

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The axes that are crossed."""
        return {path: domain for path, domain in self._axes.calculate(study).items() if not domain.single()}

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Generation of a trial."""
        return trial.number // self._size

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """In order of numbers: Optuna gives them by rank when it chooses them, and by number when it remembers."""
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Its trials that have values."""
        numbers = range(generation * self._size, (generation + 1) * self._size)
        trials = study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.number in numbers and trial.state == TrialState.COMPLETE]


def _study(history: History, sampler: BaseSampler) -> optuna.Study:
    return optuna.load_study(study_name=history.name, storage=history, sampler=sampler)


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
