"""What each family's loss would be: a law with its draws, the noise of a run, and the range it was measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.crossing.envelope import FittedFamily, best_over_sizes, loss_at
from crossover.platform.analysis.published_laws import LawFile
from crossover.platform.analysis.recommendation.results import Choice
from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.platform.analysis.scaling_laws.problem import JointLaw
from crossover.platform.analysis.scaling_laws.results import LawFit

__all__ = ["LEVEL", "Forecast", "forecasts_of_file", "forecasts_of_fit"]

Floats = NDArray[np.float64]

LEVEL = 0.8
STATED_FACTOR = 4.0  # beyond the data by more than this, intervals are widened and the plan warns
_REACH = 10.0  # sizes that are considered go so far beyond those measured
_DEFAULT_NOISE = 0.02
_NUM_DRAWS = 400
_NUM_BUDGETS = 60
_NOTHING = 1e-3  # of ln loss: FLOPs that lower it by less are not spent
_NAMES = {"ar": "autoregressive", "mdm": "masked_diffusion", "dlm": "masked_diffusion", "diffusion": "masked_diffusion"}


@dataclass(frozen=True)
class Forecast:
    """One family.

    Args:
        family: the law, row 0 the optimum, the rest its draws; without draws there is row 0 alone.
        noise: standard error of ln loss of one run about the law.
        span: smallest and largest N, D and U that were measured.
        source: where the law comes from; losses of two sources are not comparable.
        sparsity: total over active parameters of what was measured; None: not said.
    """

    family: FittedFamily
    noise: float
    span: Mapping[str, tuple[float, float]]
    source: str
    sparsity: float | None = None

    @property
    def objective(self) -> str:
        """The objective's name, without settings."""
        name = self.family.name.partition(", ")[0]
        return _NAMES.get(name.lower(), name)

    @property
    def setting(self) -> str:
        """Other scientific settings."""
        return self.family.name.partition(", ")[2]

    def log_losses(self, params: Floats, tokens: Floats, unique: Floats) -> Floats:
        """ln loss at points [R], without the noise of a run: [B, R], the optimum first."""
        return loss_at(self.family, np.log(params), np.log(tokens), np.log(unique))

    def best(self, unique_tokens: float, flops: float) -> tuple[float, float]:
        """N and D of the lowest loss for U unique tokens within C FLOPs, or fewer where more give nothing."""
        lowest = self.family.take(slice(0, 1))
        log_unique, log_flops = math.log(unique_tokens), math.log(flops)
        smallest, largest = lowest.log_sizes
        budgets = np.array([log_flops])
        if lowest.law.uses_repeats:
            least = min(math.log(6.0) + smallest + log_unique, log_flops)
            budgets = np.linspace(least, log_flops, _NUM_BUDGETS)
        else:  # one epoch at most: the law knows nothing of repeats
            once = log_flops - math.log(6.0) - log_unique
            lowest = replace(lowest, log_sizes=(max(smallest, once), max(largest, once)))
        found = best_over_sizes(lowest, budgets, log_unique, least_epochs=0.0)
        place = int(np.argmax(found.log_loss[0] <= found.log_loss[0].min() + _NOTHING))
        params = math.exp(found.log_params[0, place])
        return params, math.exp(float(budgets[place])) / (6 * params)

    def beyond(self, params: float, tokens: float, unique: float) -> float:
        """How far a point lies beyond the measured N, D, U and D/U, as a factor; 1 inside."""
        factors = [1.0]
        for name, value in (("N", params), ("D", tokens), ("U", unique)):
            if name in self.span:
                low, high = self.span[name]
                factors += [low / value, value / high]
        if {"D", "U"} <= self.span.keys() and self.family.law.uses_repeats:
            factors.append(tokens / unique / (self.span["D"][1] / self.span["U"][0]))
        return max(factors)

    def choice(self, unique_tokens: float, params: float, tokens: float, seed: int = 0) -> Choice:
        """What training so would give, with its interval."""
        points = [np.array([value]) for value in (params, tokens, unique_tokens)]
        log_B = self.log_losses(*points)[:, 0]
        draws = np.resize(log_B[1:] if len(log_B) > 1 else log_B, max(_NUM_DRAWS, len(log_B) - 1))
        draws = draws + np.random.default_rng([seed, 4]).normal(0, self.noise, len(draws))
        beyond = self.beyond(params, tokens, unique_tokens)
        widened = max(1.0, 1.0 + math.log(beyond / STATED_FACTOR) / math.log(STATED_FACTOR))
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        best = float(log_B[0])
        return Choice(
            objective=self.objective,
            setting=self.setting,
            params=params,
            epochs=tokens / unique_tokens,
            tokens=tokens,
            flops=6 * params * tokens,
            sparsity=self.sparsity,
            loss=math.exp(best),
            low=math.exp(best - widened * max(best - float(low), 0.0)),
            high=math.exp(best + widened * max(float(high) - best, 0.0)),
            level=LEVEL,
            beyond=beyond,
            widened=widened,
            basis="law",
            source=self.source,
        )


def forecasts_of_fit(fit: LawFit, sparsity: Mapping[str, float] | None = None) -> list[Forecast]:
    """Each family of a fit."""
    scale = 1.0 if fit.held_out is None else max(1.0, fit.held_out.scale)
    joint, errors = fit.solution.problem.joint, fit.residual_errors()
    theta_BP = np.vstack([fit.solution.theta_P[None], fit.draws])
    found = []
    for family in fit.families:
        rows = fit.table.take(fit.table.family == family)
        span = {
            "N": (float(rows.params.min()), float(rows.params.max())),
            "D": (float(rows.tokens.min()), float(rows.tokens.max())),
            "U": (float(rows.unique.min()), float(rows.unique.max())),
        }
        fitted = FittedFamily(family, joint.law, theta_BP[:, joint.places(family)], _log_sizes(span))
        known = None if sparsity is None else sparsity.get(family)
        found.append(Forecast(fitted, errors[family] * scale, span, fit.source, known))
    return found


def forecasts_of_file(name: str, law_file: LawFile) -> list[Forecast]:
    """Each family of a law file."""
    law = LAWS[law_file.law]
    scale = 1.0 if law_file.held_out is None else max(1.0, law_file.held_out.scale)
    joint = JointLaw(law, law_file.families, frozenset(law_file.shared))
    found = []
    for family in law_file.families:
        values = {p.name: law_file.value(p.name, family) or math.nan for p in law.parameters}
        theta_BP = law.internal(values)[None]
        if law_file.draws:
            natural = np.array(law_file.draws)[:, joint.places(family)]
            logarithmic = np.array([p.logarithmic for p in law.parameters])
            theta_BP = np.vstack([theta_BP, np.where(logarithmic, np.log(natural), natural)])
        noise = law_file.residual_errors.get(family, law_file.residual_error or _DEFAULT_NOISE) * scale
        fitted = FittedFamily(family, law, theta_BP, _log_sizes(law_file.range))
        found.append(Forecast(fitted, noise, law_file.range, name, law_file.sparsity))
    return found


def _log_sizes(span: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    low, high = span.get("N", (1e6, 1e12))
    return math.log(low / _REACH), math.log(high * _REACH)
