"""The laws: sums of terms `A / X^a` and an irreducible loss E, each by its effective sizes.

Everything is computed as ln L = logsumexp of the terms' logarithms, in internal coordinates: logarithms of what is
positive and spans orders of magnitude, exponents as they are. A law is added by one `register_law`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.sizes import (
    DecliningRepeats,
    EffectiveSize,
    ExcessParameters,
    ParameterCount,
    Points,
    RepeatedData,
    Size,
    Tokens,
)

__all__ = ["LAWS", "Expansion", "Law", "Parameter", "Term", "register_law"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Args:
        name: as reported, such as `R_D`.
        lower: smallest value that is searched.
        upper: largest value.
        starts: values that a search starts from; none for coefficients, which follow from the rest by least squares.
        logarithmic: fitted as its logarithm, under the name `log_<name>`.
    """

    name: str
    lower: float
    upper: float
    starts: tuple[float, ...] = ()
    logarithmic: bool = False

    @property
    def key(self) -> str:
        """Its name in internal coordinates."""
        return f"log_{self.name}" if self.logarithmic else self.name

    def internal(self, value: float) -> float:
        """The value in internal coordinates."""
        return math.log(value) if self.logarithmic else value

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds in internal coordinates."""
        return self.internal(self.lower), self.internal(self.upper)


@dataclass(frozen=True)
class Term:
    """exp(coefficient) / X^exponent."""

    coefficient: str
    exponent: str
    size: EffectiveSize


@dataclass(frozen=True)
class Expansion:
    """A law at parameters [B, P] and points [R].

    Args:
        log_loss_BR: ln L.
        jacobian_BPR: its derivatives.
        shares: share of each term in the loss, [B, R], E last.
        slopes: derivatives of each term's logarithm by parameter, each broadcasting to [B, R].
        sizes: of each term.
    """

    log_loss_BR: Floats
    jacobian_BPR: Floats
    shares: tuple[Floats, ...]
    slopes: tuple[dict[str, Floats], ...]
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class Law:
    """A scaling law of one family.

    Args:
        name: as the command line knows it.
        formula: for readers.
        terms: all but the irreducible loss E.
        parameters: in the order of every parameter array.
        rises: the loss may rise again with more epochs.
        uses_repeats: unique tokens matter.
    """

    name: str
    formula: str
    terms: tuple[Term, ...]
    parameters: tuple[Parameter, ...]
    rises: bool = False
    uses_repeats: bool = False

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Internal names."""
        return tuple(parameter.key for parameter in self.parameters)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each internal name."""
        return {key: place for place, key in enumerate(self.keys)}

    def parameter(self, name: str) -> Parameter:
        """A parameter by its reported name."""
        return next(p for p in self.parameters if p.name == name)

    def internal(self, values: Mapping[str, float]) -> Floats:
        """A parameter array [P] from reported values."""
        return np.array([parameter.internal(values[parameter.name]) for parameter in self.parameters])

    def natural(self, theta_BP: Floats) -> Floats:
        """Reported values from internal ones, any leading shape."""
        logarithmic = np.array([parameter.logarithmic for parameter in self.parameters])
        return np.where(logarithmic, np.exp(np.where(logarithmic, theta_BP, 0.0)), theta_BP)

    def values(self, theta_BP: Floats) -> dict[str, Floats]:
        """Columns [B, 1] by internal name."""
        return {key: theta_BP[:, place, None] for place, key in enumerate(self.keys)}

    def log_loss(self, theta_BP: Floats, points: Points) -> Floats:
        """ln L, [B, R]."""
        values = self.values(theta_BP)
        sizes = [term.size.at(values, points, derivatives=False) for term in self.terms]
        return _logsumexp(self._logs(values, sizes))[0]

    def expand(self, theta_BP: Floats, points: Points) -> Expansion:
        """ln L with what its first and second derivatives need."""
        values = self.values(theta_BP)
        sizes = tuple(term.size.at(values, points) for term in self.terms)
        log_loss_BR, shares = _logsumexp(self._logs(values, sizes))
        slopes = tuple(_slopes(term, size, values) for term, size in zip(self.terms, sizes, strict=True))
        jacobian_BPR = np.zeros((len(theta_BP), len(self.keys), log_loss_BR.shape[1]))
        for share, by_key in zip(shares[:-1], slopes, strict=True):
            for key, slope in by_key.items():
                jacobian_BPR[:, self.index[key]] += share * slope
        jacobian_BPR[:, self.index["log_E"]] += shares[-1]
        return Expansion(log_loss_BR, jacobian_BPR, shares, slopes, sizes)

    def curvature(self, theta_BP: Floats, expansion: Expansion, weight_BR: Floats) -> Floats:
        """Sum over points of weight times the second derivatives of ln L, [B, P, P]."""
        values = self.values(theta_BP)
        jacobian = expansion.jacobian_BPR
        total_BPP = -((jacobian * weight_BR[:, None, :]) @ jacobian.transpose(0, 2, 1))
        for term, share, slopes, size in zip(
            self.terms, expansion.shares[:-1], expansion.slopes, expansion.sizes, strict=True
        ):
            weighted = weight_BR * share
            places = [self.index[key] for key in slopes]
            stacked = np.stack([np.broadcast_to(slope, weighted.shape) for slope in slopes.values()], axis=1)
            block = (stacked * weighted[:, None, :]) @ stacked.transpose(0, 2, 1)
            total_BPP[:, np.array(places)[:, None], places] += block
            self._add_bends(total_BPP, term, size, values, weighted)
        e = self.index["log_E"]
        total_BPP[:, e, e] += (weight_BR * expansion.shares[-1]).sum(axis=1)
        return total_BPP

    def _add_bends(
        self, total_BPP: Floats, term: Term, size: Size, values: Mapping[str, Floats], weighted: Floats
    ) -> None:
        """Second derivatives of a term's own logarithm, `c - k x`: -k x'' and, of the product, -x'."""
        exponent = self.index[term.exponent]
        for key, slope in size.first.items():
            amount = -_row_sum(weighted, slope)
            total_BPP[:, exponent, self.index[key]] += amount
            total_BPP[:, self.index[key], exponent] += amount
        for (j, k), bend in size.second.items():
            amount = -values[term.exponent][:, 0] * _row_sum(weighted, bend)
            total_BPP[:, self.index[j], self.index[k]] += amount
            if j != k:
                total_BPP[:, self.index[k], self.index[j]] += amount

    def _logs(self, values: Mapping[str, Floats], sizes: tuple[Size, ...] | list[Size]) -> list[Floats]:
        logs = [
            values[term.coefficient] - values[term.exponent] * size.log
            for term, size in zip(self.terms, sizes, strict=True)
        ]
        return [*logs, np.broadcast_to(values["log_E"], logs[0].shape)]


def _logsumexp(logs: list[Floats]) -> tuple[Floats, tuple[Floats, ...]]:
    highest = logs[0]
    for other in logs[1:]:
        highest = np.maximum(highest, other)
    parts = [np.exp(log - highest) for log in logs]
    total = sum(parts[1:], parts[0])
    return highest + np.log(total), tuple(part / total for part in parts)


def _slopes(term: Term, size: Size, values: Mapping[str, Floats]) -> dict[str, Floats]:
    slopes = {key: -values[term.exponent] * slope for key, slope in size.first.items()}
    slopes[term.coefficient] = slopes.get(term.coefficient, 0.0) + np.ones((1, 1))
    slopes[term.exponent] = slopes.get(term.exponent, 0.0) - size.log
    return slopes


def _row_sum(weight_BR: Floats, values: Floats) -> Floats:
    total: Floats = (weight_BR * values).sum(axis=1)
    return total


LAWS: dict[str, Law] = {}


def register_law(law: Law) -> Law:
    """Make a law known by its name."""
    LAWS[law.name] = law
    return law


_A = Parameter("A", 1e-3, 1e30, logarithmic=True)
_B = Parameter("B", 1e-3, 1e30, logarithmic=True)
_E = Parameter("E", 1e-4, 1e2, logarithmic=True)
_ALPHA = Parameter("alpha", 0.01, 4.0, (0.2, 0.35, 0.5, 0.9))
_BETA = Parameter("beta", 0.01, 4.0, (0.2, 0.35, 0.5, 0.9))
_OF_PARAMETERS = Term("log_A", "alpha", ParameterCount())

register_law(
    Law(
        "chinchilla",
        "E + A/N^alpha + B/D^beta (arXiv 2203.15556)",
        (_OF_PARAMETERS, Term("log_B", "beta", Tokens())),
        (_E, _A, _B, _ALPHA, _BETA),
    )
)
register_law(
    Law(
        "data-constrained",
        "E + A/N'^alpha + B/D'^beta, D' = U + U R_D* (1 - exp(-(D/U - 1)/R_D*)), N' likewise with R_N* beyond what U "
        "tokens can use (arXiv 2305.16264)",
        (Term("log_A", "alpha", ExcessParameters()), Term("log_B", "beta", RepeatedData())),
        (
            *(_E, _A, _B, _ALPHA, _BETA),
            Parameter("R_D*", 0.05, 1e5, (2.0, 15.0, 100.0, 800.0), logarithmic=True),
            Parameter("R_N*", 0.05, 1e5, (1.5, 8.0, 60.0), logarithmic=True),
        ),
        uses_repeats=True,
    )
)
register_law(
    Law(
        "rising",
        "E + A/N^alpha + B/D'^beta, D' = U e^p exp(-((e-1)/e_p)^gamma), e = D/U, e_p = c (U/1e8)^m / (N/1e8)^k "
        "(arXiv 2510.03280)",
        (_OF_PARAMETERS, Term("log_B", "beta", DecliningRepeats())),
        (
            *(_E, _A, _B, _ALPHA, _BETA),
            Parameter("p", 0.05, 5.0, (1.0,)),
            Parameter("c", 1e-6, 1e9, (5.0, 50.0, 500.0), logarithmic=True),
            Parameter("m", -3.0, 3.0, (0.4,)),
            Parameter("k", -3.0, 3.0, (0.5,)),
            Parameter("gamma", 0.05, 5.0, (0.4, 1.0)),
        ),
        rises=True,
        uses_repeats=True,
    )
)
register_law(Law("asymptote", "E + A/N^alpha", (_OF_PARAMETERS,), (_E, _A, _ALPHA)))
