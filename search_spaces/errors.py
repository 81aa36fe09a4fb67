"""The one error of this package; `near` finds what a mistyped name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["SpaceError", "near"]


class SpaceError(ValueError):
    """A search space that cannot be searched.

    Args:
        mistakes: Every mistake, one sentence each: the axis, the rule, the value and what to set.
    """

    def __init__(self, mistakes: str | Sequence[str]) -> None:
        self.mistakes = (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
        super().__init__("; ".join(self.mistakes))


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name closest to `name`, else nothing."""
    found = difflib.get_close_matches(name[:200], list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
