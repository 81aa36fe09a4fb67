"""What a simulated study is compared with: the same configurations, every one trained to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from crossover.platform.execution.decisions import Suggested
from crossover.platform.search.simulation.simulate import Key, SimulatedStudy
from crossover.platform.search.simulation.world import World

__all__ = ["WITHIN", "Comparison", "Reference", "compare", "reference_of"]

WITHIN = 0.005
"""How near to the best of the reference counts as there: relative, in bits per byte."""


@dataclass(frozen=True)
class Reference:
    """Every configuration of a study, trained to its end.

    Args:
        values: best bits per byte of each configuration, mean over its repeats.
        flops: of all of them.
        trials: of each configuration.
        bests: best bits per byte of each trial.
    """

    values: Mapping[Key, float]
    flops: float
    trials: Mapping[Key, Sequence[str]]
    bests: Mapping[str, float | None]

    @property
    def winner(self) -> Key:
        """The best configuration."""
        return min(self.values, key=lambda key: (self.values[key], key))

    @property
    def best(self) -> float:
        """Its value."""
        return self.values[self.winner]

    @property
    def winners(self) -> list[Key]:
        """The best configuration of each stratum."""
        strata = dict.fromkeys(label for label, _ in self.values)
        return [min((k for k in self.values if k[0] == s), key=lambda k: (self.values[k], k)) for s in strata]


def reference_of(world: World, searched: Sequence[Suggested]) -> Reference:
    """Trains what was searched to the end: its own stop rule ends a trial, and nothing else.

    Args:
        world: that the study met.
        searched: its trials.
    """
    flops = 0.0
    values: dict[Key, list[float]] = {}
    trials: dict[Key, list[str]] = {}
    bests: dict[str, float | None] = {}
    for line in searched:
        trial = world.trial(line)
        trial.train_to_the_end()
        bests[line.trial_id] = trial.best
        flops += trial.flops
        key = line.stratum_label, line.number
        trials.setdefault(key, []).append(line.trial_id)
        if trial.best is not None:
            values.setdefault(key, []).append(trial.best)
    return Reference({key: fmean(found) for key, found in values.items()}, flops, trials, bests)


def _stopped(done: SimulatedStudy, trial_id: str, reference: Reference) -> bool:
    if done.ends.get(trial_id) != "pruned":
        return False
    trial = done.trials.get(trial_id)
    return trial is None or trial.best != reference.bests[trial_id]


@dataclass(frozen=True)
class Comparison:
    """One simulated study beside its reference.

    Args:
        scheduler: that decided.
        seed: of the world and of the study.
        trials: of the search.
        flops: of everything, as a share of the reference's.
        flops_within: until the best so far came within half a percent of the reference's, as a share; None: never.
        winner_stopped: the reference's best configuration was pruned before it had its best value.
        winners_stopped: how many of the strata's best configurations were.
        strata: how many there are.
        regret: of what the study would choose, by its value trained to the end: relative to the reference's best.
        seconds: virtual time.
    """

    scheduler: str
    seed: int
    trials: int
    flops: float
    flops_within: float | None
    winner_stopped: bool
    winners_stopped: int
    strata: int
    regret: float
    seconds: float


def compare(done: SimulatedStudy, reference: Reference, scheduler: str, seed: int) -> Comparison:
    """Puts a simulated study beside its reference."""
    wanted = reference.best * (1 + WITHIN)
    within = next((spent for spent, _, value in done.path if value <= wanted), None)
    chosen = done.path[-1][1]
    stopped = [any(_stopped(done, t, reference) for t in reference.trials[key]) for key in reference.winners]
    winner = reference.winners.index(reference.winner)
    return Comparison(
        scheduler=scheduler,
        seed=seed,
        trials=len(done.searched),
        flops=done.flops / reference.flops,
        flops_within=None if within is None else within / reference.flops,
        winner_stopped=stopped[winner],
        winners_stopped=sum(stopped),
        strata=len(stopped),
        regret=reference.values[chosen] / reference.best - 1,
        seconds=done.seconds,
    )
