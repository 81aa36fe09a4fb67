"""Many simulated studies, one a seed: what they cost, and what they lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from crossover.platform.search.simulation.compare import WITHIN, Comparison, compare, reference_of
from crossover.platform.search.simulation.curves import Curves, get_law
from crossover.platform.search.simulation.recorded import read_recorded
from crossover.platform.search.simulation.simulate import simulate
from crossover.platform.search.simulation.world import World
from crossover.platform.study import Study

__all__ = ["Summary", "curves_named", "simulate_seeds", "summarize"]


def curves_named(source: str) -> Curves:
    """Recorded curves of a file or a study's folder, else the law of that name.

    Raises:
        CrossoverError: it is neither, or the file cannot be used.
    """
    path = Path(source)
    return read_recorded(path) if path.exists() else get_law(source)


def simulate_seeds(
    study: Study,
    curves: Curves,
    seeds: Sequence[int],
    schedulers: Sequence[str],
    slots: int = 8,
    flops_per_second: float = 1e14,
    done: Callable[[int], None] = lambda number: None,
) -> Iterator[Comparison]:
    """Simulates a study once for each seed and scheduler; schedulers meet the same world.

    Args:
        study: what to run.
        curves: losses of its trials, already checked with the study.
        seeds: each is the seed of the suggestions and the number of the world.
        schedulers: names of schedulers.
        slots: trials at once.
        flops_per_second: of each slot.
        done: is told how many seeds are done.
    """
    for number, seed in enumerate(seeds, start=1):
        seeded = _with_search(study, seed=seed)
        world = World(seeded, curves, seed)
        for scheduler in schedulers:
            simulated = simulate(_with_search(seeded, scheduler=scheduler), world, slots, flops_per_second)
            reference = reference_of(world, simulated.searched)
            yield compare(simulated, reference, scheduler, seed)
        done(number)


@dataclass(frozen=True)
class Summary:
    """Of one scheduler over all seeds; FLOPs are shares of training every trial to its own end.

    Args:
        scheduler: its name.
        seeds: how many.
        trials: of a study, median.
        flops: of the whole study, median.
        flops_within: until the best was within half a percent of the reference's, median over those that came there.
        flops_within_p90: the same of nine seeds in ten.
        reached: seeds that came there.
        winners_stopped: seeds whose reference's winner was stopped before its best value.
        stopped_at_most: upper end of the 95 % interval of that share (Clopper-Pearson, one-sided).
        lost: seeds whose winner was stopped, and nothing within half a percent of it was found.
        strata_stopped: share of the strata's winners that were stopped.
        regret: of the answer, relative, median.
        worst_regret: the largest.
        seconds: virtual time, median.
    """

    scheduler: str
    seeds: int
    trials: float
    flops: float
    flops_within: float | None
    flops_within_p90: float | None
    reached: int
    winners_stopped: int
    stopped_at_most: float
    lost: int
    strata_stopped: float
    regret: float
    worst_regret: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """As a mapping."""
        return asdict(self)


def summarize(comparisons: Sequence[Comparison]) -> list[Summary]:
    """One summary a scheduler, in the order in which they came."""
    names = dict.fromkeys(comparison.scheduler for comparison in comparisons)
    return [_summary([c for c in comparisons if c.scheduler == name]) for name in names]


def _summary(found: Sequence[Comparison]) -> Summary:
    within = [c.flops_within for c in found if c.flops_within is not None]
    stopped = sum(c.winner_stopped for c in found)
    return Summary(
        scheduler=found[0].scheduler,
        seeds=len(found),
        trials=median(c.trials for c in found),
        flops=median(c.flops for c in found),
        flops_within=median(within) if within else None,
        flops_within_p90=quantiles(within, n=10)[-1] if len(within) > 1 else None,
        reached=len(within),
        winners_stopped=stopped,
        stopped_at_most=_at_most(stopped, len(found)),
        lost=sum(c.winner_stopped and c.regret > WITHIN for c in found),
        strata_stopped=sum(c.winners_stopped for c in found) / sum(c.strata for c in found),
        regret=median(c.regret for c in found),
        worst_regret=max(c.regret for c in found),
        seconds=median(c.seconds for c in found),
    )


def _at_most(stopped: int, number: int) -> float:
    """Of none it is 1 - 0.05^(1/n): about 1 % of 300."""
    from scipy import special

    return 1.0 if stopped == number else float(special.betaincinv(stopped + 1, number - stopped, 0.95))


def _with_search(study: Study, **changes: Any) -> Study:
    return study.model_copy(update={"search": study.search.model_copy(update=changes)})
