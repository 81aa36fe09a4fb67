"""Counts as people write them: 24_576, 24k, 1.5M, 2B, 4e13."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["COUNT_PATTERN", "parse_count"]

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_COUNT = re.compile(r"([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?\s?([A-Za-z]*)")
_MAX_CHARACTERS = 40
_MAX_WHOLE = 2**63

COUNT_PATTERN = r"^[0-9]+(_[0-9]+)*(\.[0-9]+)?\s?[kKMBTPE]?$"


def parse_count(value: Any) -> Any:
    """A whole number from a count with a unit, or from a float without a fraction; what is neither stays as it is.

    Raises:
        ValueError: text that is no count, an unknown unit, or a count with a fraction left.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_WHOLE:
        return int(value)
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value.strip()) if len(value) <= _MAX_CHARACTERS else None
    if match is None:
        raise ValueError(f"{value[:_MAX_CHARACTERS]!r} is no count: write a number such as 24_576, 24k, 1.5M or 2B")
    whole, fraction, unit = match.groups(default="")
    if unit not in _UNITS:
        raise ValueError(f"the unit {unit!r} in {value!r} is unknown: use k, M, B, T, P or E (powers of a thousand)")
    scaled = int(whole.replace("_", "") + fraction) * _UNITS[unit]
    count, rest = divmod(scaled, 10 ** len(fraction))
    if rest:
        raise ValueError(f"{value!r} is no whole number")
    return count
