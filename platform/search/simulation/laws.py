"""The data-constrained law: AR overfits, masked diffusion starts slower and crosses it.

L = E + A / N^alpha + B / D'^beta + overfitting, with D' = U + U R (1 - exp(-(epochs - 1) / R)) (arXiv 2305.16264).
AR: A, B, E, alpha = beta of arXiv 2305.16264, and R = 31.9 of arXiv 2507.15857. Masked diffusion: A, B, alpha, beta of
arXiv 2510.03280 (eq. 13) and R = 513. The two fits are of different losses, so the E of masked diffusion is ours: at
100M unique tokens and 400M parameters its best lies about 0.16 nats below AR's of one recipe for both, the difference
of arXiv 2507.15857. Order and shape of curves are what a scheduler meets; the losses themselves are no prediction.

That D' saturates is half of the story: published runs turn up (AR at 50 epochs, MDM ten times later). The penalty
grows with (N / U)^0.43 (exponent of arXiv 2510.03280, eq. 21) and linearly with epochs. Weight decay of 1 takes 70 % of
it away (arXiv 2605.01640), dropout too (arXiv 2510.04071).

How nuisance settings act is ours: nobody has published it as a law. Each has an optimum that a world draws, a price on
either side of it, and, what matters to a scheduler, what protects against overfitting slows the start: so curves cross
within a stratum too, and who leads at a tenth of the epochs need not win.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossover.platform.search.simulation.curves import Curve, Floats, Law, Traits, register_law

__all__ = ["DataConstrained", "Response", "response_of"]

_SEED_NATS = 0.01  # between seeds of one configuration: 0.01 to 0.02 at 80M parameters (papers.md, section 8)
_NOISE = {"autoregressive": 0.004, "masked_diffusion": 0.006}  # of an evaluation; recorded with 256 windows: 0.01


@dataclass(frozen=True)
class Response:
    """What nuisance settings do to a trial.

    Args:
        speed: tokens count this many times over.
        excess: nats per token that stay.
        protection: what is left of overfitting.
    """

    speed: float
    excess: float
    protection: float


def response_of(traits: Traits) -> Response:
    """Effect of learning rate, weight decay, dropout, batch size and optimizer, and of luck.

    A learning rate below the optimum is slow, one above it ends higher: 0.02 nats at a factor of 2.7, as the step-law
    measurements have it (0.01 to 0.05 there). Weight decay of 1 lowers the speed by a third, dropout by its rate twice.
    """
    config, name = traits.config, traits.config.objective.name
    world, own = traits.draw("response", name), traits.draw("trial", traits.trial_id)
    best_rate, best_decay = world.normal(math.log(2e-3), 0.5), world.normal(math.log(0.8), 0.5)
    muon = 0.1 * world.normal() if config.optimizer.name == "muon" else 0.0
    rate = math.log(config.optimizer.learning_rate) - best_rate + 0.5 * math.log(16 / config.schedule.batch_size)
    decay, dropout = config.optimizer.weight_decay, config.regularization.dropout
    speed = math.exp(0.5 * min(0.0, rate) + muon + 0.05 * own.normal()) / (1 + 0.5 * decay) * (1 - dropout) ** 2
    too_much = max(0.0, math.log(max(decay, 1e-3)) - best_decay)
    excess = 0.02 * rate**2 + 0.03 * too_much**2 + 0.3 * max(0.0, dropout - 0.2) ** 2 + _SEED_NATS * own.normal()
    return Response(speed, excess, 0.3 ** min(decay, 3.0) * (1 - dropout) ** 4)


@dataclass(frozen=True)
class _Constants:
    e: float
    a: float
    alpha: float
    b: float
    beta: float
    repeats: float  # R: epochs after which repeated tokens are worth little
    penalty: float  # nats per token and epoch at N = U


_LAW = {
    "autoregressive": _Constants(1.8691, 520.82, 0.3526596, 1487.72, 0.3526596, 31.93, 2.2e-3),
    "masked_diffusion": _Constants(2.05, 798.6, 0.379, 4604.9, 0.378, 512.85, 1.0e-4),
}


@register_law("data_constrained")
class DataConstrained(Law):
    """The law, with what nuisance settings do to it."""

    known: ClassVar[frozenset[str]] = frozenset(
        {
            "data.seed",
            "data.unique_tokens",
            "model.size",
            "objective.name",
            "optimizer.learning_rate",
            "optimizer.name",
            "optimizer.weight_decay",
            "regularization.dropout",
            "schedule.batch_size",
            "schedule.epochs",
            "seed",
        }
    )

    def curve(self, traits: Traits) -> Curve:
        """Falls while fresh and repeated tokens help, then rises."""
        law, response = _LAW[traits.config.objective.name], response_of(traits)
        unique, params = traits.config.data.unique_tokens, traits.num_params
        floor = law.e + law.a / params**law.alpha + response.excess
        overfitting = law.penalty * (params / unique) ** 0.43 * response.protection

        def nats(epochs: Floats) -> Floats:
            seen = response.speed * epochs
            beyond = law.repeats * -np.expm1(-np.maximum(0.0, seen - 1) / law.repeats)
            worth = unique * np.where(seen < 1, seen, 1 + beyond)
            return self.shape(floor, law.b / worth**law.beta, overfitting * seen, epochs, traits)

        noise = _NOISE[traits.config.objective.name]
        return Curve(nats, noise, error=math.sqrt(2) * noise)

    def shape(self, floor: float, falling: Floats, rising: Floats, epochs: Floats, traits: Traits) -> Floats:
        """Puts the parts together: what does not change, what falls, what rises; nats per token."""
        return floor + falling + rising
