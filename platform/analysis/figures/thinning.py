"""So many curves of so many points that they can be told apart and that the page stays small at any size of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_CURVES", "curves_a_panel", "evenly", "kept_points"]

MAX_CURVES = 200
"""Of a panel."""
_MAX_CURVES_OF_FIGURE = 1_600
_MAX_POINTS = 60  # of a faint curve

T = TypeVar("T")


def curves_a_panel(num_panels: int) -> int:
    """Curves that each of so many panels may have."""
    return max(20, min(MAX_CURVES, _MAX_CURVES_OF_FIGURE // max(1, num_panels)))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """So many of them at equal distances, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, count).round().astype(int))]


def kept_points(num_points: int, best: int) -> NDArray[np.intp]:
    """Which points of a curve are drawn: evenly spread, with its first, its last and its best."""
    places = np.linspace(0, num_points - 1, min(num_points, _MAX_POINTS)).round().astype(np.intp)
    return np.unique(np.append(places, best))
