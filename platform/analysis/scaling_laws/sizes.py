"""Effective sizes: what a term `A / X^a` of a law divides by, with its exact first and second derivatives.

A size gives x = ln X as a function of the law's parameters at given points. Derivatives are analytic, so that Newton's
method ends where the gradient is zero and not where a difference quotient is; `expm1` keeps them exact for few repeats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DecliningRepeats",
    "EffectiveSize",
    "ExcessParameters",
    "ParameterCount",
    "Points",
    "RepeatedData",
    "Size",
    "Tokens",
]

Floats = NDArray[np.float64]
_MOST = 300.0  # of a logarithm: exp stays finite
_REFERENCE = np.log(1e8)  # tokens and parameters from which the epochs of a rising law are counted
Values = Mapping[str, Floats]


@dataclass(frozen=True)
class Points:
    """Where a law is evaluated; each array is [R], or [B, R] with points of their own for each of B parameter sets.

    Args:
        log_params: ln N.
        log_tokens: ln D, tokens seen.
        log_unique: ln U, unique tokens.
    """

    log_params: Floats
    log_tokens: Floats
    log_unique: Floats

    @classmethod
    def of(cls, params: Floats, tokens: Floats, unique: Floats) -> Points:
        """From plain counts."""
        return cls(np.log(params), np.log(tokens), np.log(unique))

    @property
    def repeats(self) -> Floats:
        """R_D = D/U - 1, never below 0: what is seen for less than one epoch is not repeated."""
        return np.maximum(np.expm1(self.log_tokens - self.log_unique), 0.0)

    def take(self, rows: NDArray[np.intp]) -> Points:
        """Some of the rows."""
        return Points(self.log_params[..., rows], self.log_tokens[..., rows], self.log_unique[..., rows])


@dataclass(frozen=True)
class Size:
    """ln X and its derivatives, arrays that broadcast to [B, R].

    Args:
        first: by parameter.
        second: by pair of parameters, each pair once.
    """

    log: Floats
    first: dict[str, Floats] = field(default_factory=dict)
    second: dict[tuple[str, str], Floats] = field(default_factory=dict)


class EffectiveSize(ABC):
    """One way to count parameters or tokens; a law is made of them."""

    @abstractmethod
    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """The size at parameter values [B, 1] by name, in the law's internal coordinates."""


class ParameterCount(EffectiveSize):
    """X = N."""

    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """ln N."""
        return Size(points.log_params)


class Tokens(EffectiveSize):
    """X = D."""

    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """ln D."""
        return Size(points.log_tokens)


class RepeatedData(EffectiveSize):
    """D' = U + U R_D* (1 - exp(-R_D / R_D*)), arXiv 2305.16264; `log_R_D*` is its logarithm."""

    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """ln D'."""
        scale, repeats = np.exp(values["log_R_D*"]), points.repeats
        ratio = repeats / scale
        gained = scale * -np.expm1(-ratio)
        below_one = np.minimum(points.log_tokens - points.log_unique, 0.0)
        log = points.log_unique + below_one + np.log1p(gained)
        if not derivatives:
            return Size(log)
        left = np.exp(-ratio)
        first = (gained - repeats * left) / (1 + gained)
        second = (gained - repeats * left * (1 + ratio)) / (1 + gained) - first**2
        return Size(log, {"log_R_D*": first}, {("log_R_D*", "log_R_D*"): second})


class ExcessParameters(EffectiveSize):
    """N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)), R_N = N / U_N - 1, arXiv 2305.16264.

    U_N = min(N, N_opt(U)) is what U unique tokens can use: N_opt = (U G)^(beta/alpha) G,
    G = (alpha A / (beta B))^(1 / (alpha + beta)). So N' depends on the base law too; at N = U_N the first derivatives
    by it are zero on both sides, and the law is smooth there.
    """

    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """ln N'."""
        optimum = _Optimum(values, points.log_unique)
        log_used = np.minimum(points.log_params, optimum.log)
        scale = np.exp(values["log_R_N*"])
        excess = np.expm1(np.minimum(points.log_params - log_used, _MOST))
        ratio = excess / scale
        gained = scale * -np.expm1(-ratio)
        log = log_used + np.log1p(gained)
        if not derivatives:
            return Size(log)
        left, whole, times = np.exp(-ratio), 1 + gained, excess + 1
        lost = left * times / whole
        by_scale = (gained - excess * left) / whole
        inside = optimum.log < points.log_params
        by_used = np.where(inside, 1 - lost, 0.0)
        used_used = np.where(inside, lost - lost * times / scale - lost**2, 0.0)
        used_scale = np.where(inside, lost * (by_scale - ratio), 0.0)
        scale_scale = by_scale - excess * left * ratio / whole - by_scale**2
        first = {name: by_used * slope for name, slope in optimum.first.items()}
        second: dict[tuple[str, str], Floats] = {
            (j, k): used_used * optimum.first[j] * optimum.first[k] + by_used * bend
            for (j, k), bend in optimum.second.items()
        }
        second.update({(name, "log_R_N*"): used_scale * slope for name, slope in optimum.first.items()})
        first["log_R_N*"] = by_scale
        second["log_R_N*", "log_R_N*"] = scale_scale
        return Size(log, first, second)


class _Optimum:
    """ln N_opt(U) of a base law and its derivatives by ln A, ln B, alpha and beta."""

    def __init__(self, values: Values, log_unique: Floats) -> None:
        alpha, beta = values["alpha"], values["beta"]
        total = alpha + beta
        offset = np.log(alpha) - np.log(beta) + values["log_A"] - values["log_B"]
        log_g, slope = offset / total, beta / alpha
        self._alpha, self._beta, self._total, self._offset = alpha, beta, total, offset
        self._slope, self._reach = slope, log_unique + log_g
        self.log = slope * self._reach + log_g

    @cached_property
    def _first_of_g(self) -> dict[str, Floats]:
        total, bend = self._total, self._offset / self._total**2
        return {
            "log_A": 1 / total,
            "log_B": -1 / total,
            "alpha": 1 / (self._alpha * total) - bend,
            "beta": -1 / (self._beta * total) - bend,
        }

    @cached_property
    def _first_of_slope(self) -> dict[str, Floats]:
        zero = np.zeros_like(self._alpha)
        return {"log_A": zero, "log_B": zero, "alpha": -self._beta / self._alpha**2, "beta": 1 / self._alpha}

    @cached_property
    def first(self) -> dict[str, Floats]:
        """By each parameter."""
        of_g, of_slope = self._first_of_g, self._first_of_slope
        return {name: of_slope[name] * self._reach + (self._slope + 1) * of_g[name] for name in of_g}

    @cached_property
    def second(self) -> dict[tuple[str, str], Floats]:
        """By each pair of parameters."""
        alpha, beta, total = self._alpha, self._beta, self._total
        square, curve = 1 / total**2, 2 * self._offset / total**3
        zero = np.zeros_like(alpha)
        of_g = {
            ("log_A", "log_A"): zero,
            ("log_A", "log_B"): zero,
            ("log_B", "log_B"): zero,
            ("log_A", "alpha"): -square,
            ("log_A", "beta"): -square,
            ("log_B", "alpha"): square,
            ("log_B", "beta"): square,
            ("alpha", "alpha"): -1 / (alpha**2 * total) - 2 * square / alpha + curve,
            ("alpha", "beta"): square / beta - square / alpha + curve,
            ("beta", "beta"): 1 / (beta**2 * total) + 2 * square / beta + curve,
        }
        of_slope = {("alpha", "alpha"): 2 * beta / alpha**3, ("alpha", "beta"): -1 / alpha**2}
        g, slope = self._first_of_g, self._first_of_slope
        return {
            (j, k): of_slope.get((j, k), zero) * self._reach
            + slope[j] * g[k]
            + slope[k] * g[j]
            + (self._slope + 1) * bend
            for (j, k), bend in of_g.items()
        }


class DecliningRepeats(EffectiveSize):
    """D' = U e^p exp(-((e - 1) / e_p)^gamma), e = D / U epochs: Quokka's law, arXiv 2510.03280.

    D' rises, then falls: every model overfits at last, larger ones sooner. Below one epoch D' = U e^p. The epochs
    e_p = c (U / 1e8)^m / (N / 1e8)^k are counted from 1e8 tokens and parameters: with the paper's c U^m / N^k, c would
    span orders of magnitude and say nothing by itself.
    """

    def at(self, values: Values, points: Points, *, derivatives: bool = True) -> Size:
        """ln D'."""
        log_unique, log_params = points.log_unique - _REFERENCE, points.log_params - _REFERENCE
        log_epochs = points.log_tokens - points.log_unique
        repeats = points.repeats
        with np.errstate(divide="ignore"):
            log_repeats = np.where(repeats > 0, np.log(repeats), -1e3)
        gamma = values["gamma"]
        far = log_repeats - values["log_c"] - values["m"] * log_unique + values["k"] * log_params
        lost = np.exp(np.minimum(gamma * far, 50.0))
        log = points.log_unique + values["p"] * log_epochs - lost
        if not derivatives:
            return Size(log)
        slopes = {"log_c": -1.0 + 0 * far, "m": -log_unique, "k": log_params}
        first = {"p": log_epochs, "gamma": -lost * far}
        first.update({name: -lost * gamma * slope for name, slope in slopes.items()})
        second = {("gamma", "gamma"): -lost * far**2}
        names = tuple(slopes)
        for i, j in enumerate(names):
            second["gamma", j] = -lost * slopes[j] * (1 + gamma * far)
            second.update({(j, k): -lost * gamma**2 * slopes[j] * slopes[k] for k in names[i:]})
        return Size(log, first, second)
