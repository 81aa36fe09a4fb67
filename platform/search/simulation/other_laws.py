"""Laws of other families than the extrapolator's power law with an asymptote: it must not depend on being right.

Nuisance settings act as in `laws`; what differs is the shape of a curve.
"""

from __future__ import annotations

import numpy as np

from crossover.platform.search.simulation.curves import Floats, Traits, register_law
from crossover.platform.search.simulation.laws import DataConstrained

__all__ = ["Annealed", "Bounded", "DoubleDescent", "Ordered"]

_UNTRAINED = 5.5  # nats per token of 257 outputs that are equally likely


@register_law("bounded")
class Bounded(DataConstrained):
    """L = E + (L0 - E) h / (1 + h) (arXiv 2605.09189): saturates at the loss of an untrained model, at both ends."""

    def shape(self, floor: float, falling: Floats, rising: Floats, epochs: Floats, traits: Traits) -> Floats:
        """h is what falls and what rises, in units of L0 - E."""
        span = _UNTRAINED - floor
        h = (falling + rising) / span
        return floor + span * h / (1 + h)


@register_law("double_descent")
class DoubleDescent(DataConstrained):
    """A bump on the way down: the loss rises for a while and falls again, as a minority of runs do (arXiv 2510.03280).

    A configuration in three has one, 0.02 to 0.1 nats high, somewhere between 4 and 60 epochs, half as wide as that in
    the logarithm. The stop rule may end a trial on its way up, here as in a real study.
    """

    def shape(self, floor: float, falling: Floats, rising: Floats, epochs: Floats, traits: Traits) -> Floats:
        """Adds the bump."""
        draw = traits.draw("bump", traits.trial_id)
        has_one, height = draw.random() < 1 / 3, draw.uniform(0.02, 0.1)
        centre = draw.uniform(np.log(4), np.log(60))
        bump = height * np.exp(-0.5 * ((np.log(epochs) - centre) / 0.5) ** 2)
        return floor + falling + rising + (bump if has_one else 0.0)


@register_law("annealed")
class Annealed(DataConstrained):
    """A constant rate keeps a trial above where its weights would settle, and the last fifth brings it down there.

    The excess grows with the square root of the learning rate, so the tail changes the order (papers.md, section (a) 8:
    rank flips in the anneal); 0.03 nats at a rate of 2e-3. Nothing before the tail shows how deep it is.
    """

    def shape(self, floor: float, falling: Floats, rising: Floats, epochs: Floats, traits: Traits) -> Floats:
        """Adds what the anneal takes away."""
        schedule = traits.config.schedule
        excess = 0.03 * np.sqrt(min(10.0, traits.config.optimizer.learning_rate / 2e-3))
        left = np.clip((schedule.epochs - epochs) / (0.2 * schedule.epochs), 0.0, 1.0)
        tail: Floats = excess * left
        return floor + falling + rising + tail


@register_law("ordered")
class Ordered(DataConstrained):
    """Curves that never cross, within a stratum or between: what is ahead stays ahead, and nothing overfits.

    Everyone falls at the speed of AR, and differs by what a configuration costs in the end, which shows from the start.
    """

    def shape(self, floor: float, falling: Floats, rising: Floats, epochs: Floats, traits: Traits) -> Floats:
        """One common fall, from 2 nats above the end, as in a run of a few epochs."""
        fall: Floats = 2.0 / (1 + epochs) ** 0.5
        return floor + fall
