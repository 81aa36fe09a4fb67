"""Hyperband (arXiv 1603.06560): several brackets share a cohort, from the most halving to none.

Bracket s starts at rung s of the grid, with about eta^-s of the configurations of the first bracket and as many FLOPs;
the last bracket trains all of its few to the end. It hedges against rungs that come too early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from crossover.platform.search.rungs import rung_epochs
from crossover.platform.search.schedulers.base import register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort
from crossover.platform.search.schedulers.halving import CohortHalving, Group

__all__ = ["Hyperband", "bracket_sizes"]


def bracket_sizes(size: int, eta: int, num_brackets: int) -> tuple[int, ...]:
    """Configurations of each bracket, the one that halves most first: each about as many FLOPs, all of `size` in all.

    With R rungs bracket s asks for (R + 1) / (R - s + 1) * eta^(R - s), as in the paper; what does not come out even
    goes to the largest remainders.
    """
    last = num_brackets - 1
    shares = [(last + 1) / (last - s + 1) * eta ** (last - s) for s in range(num_brackets)]
    wanted = [size * share / sum(shares) for share in shares]
    sizes = [int(number) for number in wanted]
    by_remainder = sorted(range(num_brackets), key=lambda s: (sizes[s] - wanted[s], s))
    for s in by_remainder[: size - sum(sizes)]:
        sizes[s] += 1
    return tuple(sizes)


@lru_cache(maxsize=64)
def _brackets(size: int, eta: int, num_brackets: int) -> tuple[int, ...]:
    """Bracket of each position: drawn by a hash, for the order of a grid may mean something."""
    order = sorted(range(size), key=lambda position: hashlib.blake2b(b"%d" % position, digest_size=8).digest())
    bracket_of = [0] * size
    start = 0
    for bracket, number in enumerate(bracket_sizes(size, eta, num_brackets)):
        for position in order[start : start + number]:
            bracket_of[position] = bracket
        start += number
    return tuple(bracket_of)


@register_scheduler("hyperband")
class Hyperband(CohortHalving):
    """Cohort halving in brackets."""

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """Those of the configuration's bracket."""
        grid = self._grid(cohort)
        return grid[self._bracket(cohort, position, len(grid)) :]

    def groups(self, cohort: Cohort) -> Sequence[Group]:
        """The brackets."""
        grid = self._grid(cohort)
        members: list[list[int]] = [[] for _ in range(len(grid) + 1)]
        configurations = cohort.configurations
        for index, configuration in enumerate(configurations):
            position = configuration.key[1] - cohort.first
            members[self._bracket(cohort, position, len(grid))].append(index)
        return [Group([configurations[i] for i in indices], grid[s:]) for s, indices in enumerate(members)]

    def _grid(self, cohort: Cohort) -> tuple[float, ...]:
        return rung_epochs(cohort.horizon, self.settings.eta, self.settings.first_epoch) if cohort.size > 1 else ()

    def _bracket(self, cohort: Cohort, position: int, num_rungs: int) -> int:
        return _brackets(cohort.size, self.settings.eta, num_rungs + 1)[position]
