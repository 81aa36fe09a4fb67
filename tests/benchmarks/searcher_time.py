"""Time of a suggestion over Optuna's own: a study in which Optuna keeps its sampler and its trials, asked and told."""

from __future__ import annotations

import argparse
import math
import random
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from harness import Goal, publish, seconds_of
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from crossover.platform.search.searchers import Searcher, Settings, make_searcher
from crossover.search_spaces import Axis, Space

NUM_TRIALS = (1_000, 10_000)
EXTRA_SECONDS = 5e-3
SPACE = Space(
    {
        **{f"x{i}": Axis(log_uniform=(1e-4, 1.0), role="nuisance") for i in range(4)},
        "dropout": Axis(choice=(0.0, 0.1, 0.2, 0.3), role="nuisance"),
        "depth": Axis(integer=(1, 8), role="nuisance"),
    }
)
DISTRIBUTIONS = {
    **{f"x{i}": FloatDistribution(1e-4, 1.0, log=True) for i in range(4)},
    "dropout": CategoricalDistribution((0.0, 0.1, 0.2, 0.3)),
    "depth": IntDistribution(1, 8),
}
OWN: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: TPESampler(seed=0, multivariate=True, group=True, constant_liar=True),
    "nsga2": lambda: NSGAIISampler(seed=0, population_size=50),
    "random": lambda: RandomSampler(seed=0),
}


def loss(settings: Settings) -> float:
    """A bowl."""
    return sum((math.log(float(settings[f"x{i}"] or 1)) + 3) ** 2 for i in range(4)) + float(settings["dropout"] or 0)


def drawn(num_trials: int) -> list[dict[str, Any]]:
    """Configurations that are known when the clock starts."""
    draw = random.Random(0)
    return [
        {f"x{i}": 10 ** draw.uniform(-4, 0) for i in range(4)}
        | {"dropout": draw.choice((0.0, 0.1, 0.2, 0.3)), "depth": draw.randint(1, 8)}
        for _ in range(num_trials)
    ]


def own_study(sampler: str, known: list[dict[str, Any]]) -> optuna.Study:
    """Optuna's own, with its trials in memory."""
    num_values = 2 if sampler == "nsga2" else 1
    study = optuna.create_study(sampler=OWN[sampler](), directions=["minimize"] * num_values)
    study.add_trials(
        optuna.trial.create_trial(params=params, distributions=DISTRIBUTIONS, values=[loss(params)] * num_values)
        for params in known
    )
    return study


def our_searcher(sampler: str, known: list[dict[str, Any]]) -> Searcher:
    """Ours, told the same."""
    stratum = SPACE.strata()[0]
    searcher = make_searcher(
        sampler, lambda source, number: SPACE.suggest(stratum, source, number), (0,), len(known), cost=loss
    )
    for number, settings in enumerate(known):
        searcher.observe(number, settings)
        searcher.tell(number, loss(settings))
    return searcher


def measure(sampler: str, num_trials: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a suggestion, in turn; the first of each does not count."""
    known = drawn(num_trials)
    study, searcher = own_study(sampler, known), our_searcher(sampler, known)
    stratum = SPACE.strata()[0]
    seconds: dict[str, list[float]] = {"own": [], "ours": []}
    for number in range(num_trials, num_trials + repeats + 1):
        trial: list[optuna.Trial] = []

        def ask(into: list[optuna.Trial] = trial) -> None:
            into.append(study.ask())
            SPACE.suggest(stratum, into[0])

        seconds["own"].append(seconds_of(ask))
        study.tell(trial[0], [loss(trial[0].params)] * len(study.directions))
        suggested: list[Settings] = []

        def suggest(into: list[Settings] = suggested, number: int = number) -> None:
            into.append(searcher.suggest(number) or {})

        seconds["ours"].append(seconds_of(suggest))
        searcher.observe(number, suggested[0])
        searcher.tell(number, loss(suggested[0]))
    own, ours = (statistics.median(seconds[name][1:]) for name in ("own", "ours"))
    return {"sampler": sampler, "trials": num_trials, "Optuna, ms": 1e3 * own, "ours, ms": 1e3 * ours}


def main() -> None:
    """Measure at 1,000 and 10,000 trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--trials", type=int, nargs="+", default=list(NUM_TRIALS))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rows = [measure(name, count, arguments.repeats) for name in OWN for count in arguments.trials]
    goals = [
        Goal(
            f"{row['sampler']} at {row['trials']:,} trials: ms beyond Optuna's own",
            row["ours, ms"] - row["Optuna, ms"],
            at_most=1e3 * EXTRA_SECONDS,
        )
        for row in rows
    ]
    publish("searcher_time", rows, goals)


if __name__ == "__main__":
    main()
