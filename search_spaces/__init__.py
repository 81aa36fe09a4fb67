"""What a study varies: axes, conditions and strata. Pure Python, with neither Ray nor torch nor Optuna."""

from __future__ import annotations

from crossover.search_spaces.axis import Axis, Role
from crossover.search_spaces.corners import corners, pair_corners
from crossover.search_spaces.domains import Choice, Domain, Grid, Integer, LogUniform, Scalar, Source, Uniform, same
from crossover.search_spaces.errors import SpaceError, near
from crossover.search_spaces.space import Space, Stratum

__all__ = [
    "Axis",
    "Choice",
    "Domain",
    "Grid",
    "Integer",
    "LogUniform",
    "Role",
    "Scalar",
    "Source",
    "Space",
    "SpaceError",
    "Stratum",
    "Uniform",
    "corners",
    "near",
    "pair_corners",
    "same",
]
