"""Cohort halving that waits for slow starters.

Strong weight decay, dropout, noise and small learning rates start slower and win later. First the best 1/eta go on, as
in cohort halving, to the end. Then whoever waits below the cut is kept while its curve says that it may still win:
while the lower end of the 80 % prediction interval of its final best beats the best there is. Kept configurations go
on by one rung at a time, those first that are expected to end lowest, and share at most a part of the cohort's FLOPs.
No leg is begun where what is left of that part would not take the trial to its end: half of the way wins nothing.

That the best come first has two uses. The answer is there after the FLOPs of halving alone, and what waits is measured
against a final value, not against others half-way. And those that have ended, in this cohort of the stratum or in an
earlier one, show how far the others will fall and how wrong their extrapolations are (`forecasts.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from crossover.platform.search.rungs import rung_epochs
from crossover.platform.search.schedulers.base import RungDecision, register_scheduler
from crossover.platform.search.schedulers.cohort import Cohort, Configuration
from crossover.platform.search.schedulers.forecasts import Forecaster
from crossover.platform.search.schedulers.halving import CohortHalving, Group

__all__ = ["PatientHalving"]

_SAME = 0.01
"""Relative: two seeds of one configuration lie 0.01 to 0.02 nats apart, of 2 to 4: whoever may come so near is kept."""


@dataclass(frozen=True)
class _Hope:
    """What a waiting configuration may come to.

    Args:
        configuration: that waits.
        low: lower end of its final best; minus infinity where its own curve is too short to say.
        middle: where it is expected to end.
    """

    configuration: Configuration
    low: float
    middle: float

    @property
    def order(self) -> tuple[object, ...]:
        """Whoever is expected to end lowest first."""
        return self.middle, self.configuration.rank(self.configuration.passed)


@register_scheduler("patient_halving")
class PatientHalving(CohortHalving):
    """The best 1/eta go on, and after them those that may still win."""

    def rungs(self, cohort: Cohort, position: int) -> Sequence[float]:
        """The whole grid: whoever was kept is looked at again at every rung."""
        if cohort.size < 2:
            return ()
        return rung_epochs(cohort.horizon, self.settings.eta, self.settings.first_epoch)

    def decide_group(self, group: Group) -> list[RungDecision]:
        """The best go on as in cohort halving; once they have ended, so do those whose curves may come below them."""
        decisions = super().decide_group(group)
        if any(decision.action == "promote" for decision in decisions):
            return decisions
        kept = self._kept(group)
        return [*kept.values(), *(decision for decision in decisions if decision.trial_id not in kept)]

    def refusal(self, group: Group, rung: int) -> str:
        """They wait, and are looked at again once the best have ended."""
        return f"{super().refusal(group, rung)}, and it waits for what its curve may come to"

    def _kept(self, group: Group) -> dict[str, RungDecision]:
        """The next legs of those that may still win, as far as patience pays: a part of them, the rest may follow."""
        stratum = [*(c for cohort in group.earlier for c in cohort.configurations), *group.configurations]
        cut = min((c.value_at(len(group.rungs)) for c in stratum), default=math.inf)
        waiting = [c for c in group.configurations if c.paused and math.isfinite(c.value_at(c.passed))]
        forecaster = Forecaster(
            [m for c in stratum for m in c.members if m.complete], [m for c in waiting for m in c.paused]
        )
        hopes = [hope for c in waiting if (hope := _hope(c, forecaster)).low < cut * (1 + _SAME)]
        hopes.sort(key=lambda hope: hope.order)
        spent, total = self._kept_flops(group), sum(c.flops for c in group.configurations)
        kept: dict[str, RungDecision] = {}
        for hope in hopes[: math.ceil(len(hopes) / self.settings.eta)]:
            rung, left = hope.configuration.passed, _flops_left(hope.configuration)
            if spent + left <= self.settings.patience_fraction * (total + left):
                cost = _leg_flops(group, hope.configuration)
                spent, total = spent + cost, total + cost
                for member in hope.configuration.paused:
                    kept[member.trial_id] = RungDecision(member.trial_id, rung, "keep", _words(group, hope, cut))
        return kept

    def _kept_flops(self, group: Group) -> float:
        """FLOPs of legs that configurations had for their curves alone: those after a rung where they were not best."""
        flops = 0.0
        for rung in range(len(group.rungs)):
            went_on = sorted((c for c in group.configurations if c.passed > rung), key=lambda c: c.rank(rung))
            flops += sum(c.flops_at(rung + 1) - c.flops_at(rung) for c in went_on[self.places(group, rung) :])
        return flops


def _hope(configuration: Configuration, forecaster: Forecaster) -> _Hope:
    """Mean over its repeats; those that have ended are what they are."""
    found = [(member, forecaster.of(member)) for member in configuration.members]
    middle = fmean(forecaster.like_those_ahead(m) if p is None else p.middle for m, p in found)
    known = [p.low for _, p in found if p is not None]
    return _Hope(configuration, fmean(known) if len(known) == len(found) else -math.inf, middle)


def _leg_flops(group: Group, configuration: Configuration) -> float:
    """FLOPs to the next rung, or to the end, at what a token has cost so far."""
    rung, last = configuration.passed, len(group.rungs) - 1
    if rung == last:
        return _flops_left(configuration)
    return sum(m.flops_at(rung) * (group.rungs[rung + 1] / group.rungs[rung] - 1) for m in configuration.paused)


def _flops_left(configuration: Configuration) -> float:
    """FLOPs to the end, at what a token has cost so far."""
    known = [m for m in configuration.paused if m.curve and m.curve[-1].tokens]
    return sum(m.flops_at(configuration.passed) * max(0.0, m.max_tokens / m.curve[-1].tokens - 1) for m in known)


def _words(group: Group, hope: _Hope, cut: float) -> str:
    rung = hope.configuration.passed
    where = f"rung {rung + 1} (epoch {group.rungs[rung]:.3g}): kept below the cut of {cut:.4f} bits/byte"
    now = f"{hope.configuration.value_at(rung):.4f} now"
    if math.isinf(hope.low):
        return f"{where}: {now}, and too few evaluations to say where its curve leads"
    return f"{where}: {now}, and its curve may come to {hope.low:.4f}"
