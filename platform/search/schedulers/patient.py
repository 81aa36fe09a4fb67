"""Cohort halving that waits for slow starters.

Strong weight decay, dropout, noise and small learning rates start slower and win later. A configuration below the cut
is kept while its curve says that it may still come below it by the end: while the lower end of the 80 % prediction
interval of its final best beats the value at the cut. Kept configurations share at most a part of the cohort's FLOPs,
the most promising first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from crossover.platform.search.rungs import rung_epochs
from crossover.platform.search.schedulers.base import register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort, Configuration, Key, Standing
from crossover.platform.search.schedulers.extrapolation import predict_best
from crossover.platform.search.schedulers.halving import CohortHalving, Group

__all__ = ["PatientHalving"]


@register_scheduler("patient_halving")
class PatientHalving(CohortHalving):
    """The best 1/eta go on, and of the rest those that may still overtake them."""

    needs_curves: ClassVar[bool] = True

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """The whole grid: whoever was kept is looked at again at every rung."""
        if cohort.size < 2:
            return ()
        return rung_epochs(cohort.horizon, self.settings.eta, self.settings.first_epoch)

    def choose(self, group: Group, rung: int, waiting: Sequence[Configuration]) -> Mapping[Key, str]:
        """The best, and those that are kept."""
        chosen = dict(super().choose(group, rung, waiting))
        newcomers = [c for c in waiting if c.key not in chosen and _may_be_kept(c, rung)]
        passed = [c for c in group.configurations if c.passed > rung or c.key in chosen]
        if newcomers and passed:
            cut = max(c.value_at(rung) for c in passed)
            chosen |= self._kept(group, rung, newcomers, chosen, cut)
        return chosen

    def refusal(self, group: Group, rung: int) -> str:
        """Nor can they be expected to overtake, or others are more likely to."""
        return f"{super().refusal(group, rung)}, and it is not kept for its curve"

    def _kept(
        self, group: Group, rung: int, newcomers: Sequence[Configuration], chosen: Mapping[Key, str], cut: float
    ) -> dict[Key, str]:
        kept_flops = self._kept_flops(group, rung)
        total = sum(c.flops for c in group.configurations)
        total += sum(_leg_flops(group, c, rung) for c in group.configurations if c.key in chosen)
        kept: dict[Key, str] = {}
        for low, configuration in sorted(((_low(c), c) for c in newcomers), key=lambda e: (e[0], e[1].rank(rung))):
            if low >= cut:
                break
            cost = _leg_flops(group, configuration, rung)
            if kept_flops + cost <= self.settings.patience_fraction * (total + cost):
                kept_flops, total = kept_flops + cost, total + cost
                kept[configuration.key] = _kept_words(rung, group, configuration, low, cut)
        return kept

    def _kept_flops(self, group: Group, rungs: int) -> float:
        """FLOPs of legs that configurations had for their curves alone: those after a rung where they were not best."""
        flops = 0.0
        for rung in range(rungs):
            went_on = sorted((c for c in group.configurations if c.passed > rung), key=lambda c: c.rank(rung))
            flops += sum(c.flops_at(rung + 1) - c.flops_at(rung) for c in went_on[self.places(group, rung) :])
        return flops


def _may_be_kept(configuration: Configuration, rung: int) -> bool:
    """It is new at the rung, and has a value there."""
    return any(m.is_undecided for m in configuration.paused) and math.isfinite(configuration.value_at(rung))


def _low(configuration: Configuration) -> float:
    """Lower end of what a configuration may come to; minus infinity where a curve is too short to say."""
    lows = [_low_of(member) for member in configuration.members]
    known = [low for low in lows if low is not None]
    if not known:
        return math.inf
    return sum(known) / len(known)


def _low_of(member: Standing) -> float | None:
    if member.state == "ended":
        return member.value
    prediction = predict_best([p.tokens for p in member.curve], [p.value for p in member.curve], member.max_tokens)
    return -math.inf if prediction is None else prediction.low


def _leg_flops(group: Group, configuration: Configuration, rung: int) -> float:
    """FLOPs to the next rung, or to the end, at what a token has cost so far."""
    here, last = group.rungs[rung], len(group.rungs) - 1
    flops = 0.0
    for member in configuration.paused:
        if rung < last:
            flops += member.flops_at(rung) * (group.rungs[rung + 1] / here - 1)
        elif member.curve and member.curve[-1].tokens:
            flops += member.flops_at(rung) * max(0.0, member.max_tokens / member.curve[-1].tokens - 1)
    return flops


def _kept_words(rung: int, group: Group, configuration: Configuration, low: float, cut: float) -> str:
    where = f"rung {rung + 1} (epoch {group.rungs[rung]:.3g}): kept below the cut of {cut:.4f} bits/byte"
    now = f"{configuration.value_at(rung):.4f} now"
    if math.isinf(low):
        return f"{where}: {now}, and too few evaluations to say where its curve leads"
    return f"{where}: {now}, and its curve may come to {low:.4f}"
