"""Counts and bytes as people write them: 24_576, 24k, 1.5M, 2B, 4e13; 500MB, 1.5GiB."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["BYTES_PATTERN", "COUNT_PATTERN", "bytes_text", "parse_bytes", "parse_count"]

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_COUNT = re.compile(r"([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?\s?([A-Za-z]*)")
_MAX_CHARACTERS = 40
_MAX_WHOLE = 2**63

_BYTES = {
    "": 1,
    "B": 1,
    **{f"{name}B": 1000 ** (power + 1) for power, name in enumerate("kMGTP")},
    **{f"{name}iB": 1024 ** (power + 1) for power, name in enumerate("KMGTP")},
}

BYTES_PATTERN = r"^[0-9]+(\.[0-9]+)?\s?(|B|kB|MB|GB|TB|PB|KiB|MiB|GiB|TiB|PiB)$"
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


def parse_bytes(value: Any) -> Any:
    """Bytes from a size with a unit; what is no text stays as it is.

    Raises:
        ValueError: text that is no size.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    number, unit = text.rstrip("kKMGTPiB"), text.lstrip("0123456789.").strip()
    if len(text) > _MAX_CHARACTERS or unit not in _BYTES or not re.fullmatch(r"[0-9]+(\.[0-9]+)?\s?", number):
        raise ValueError(f"{value[:_MAX_CHARACTERS]!r} is no size: write bytes such as 500MB, 1.5GiB or 2TB")
    return int(float(number) * _BYTES[unit])


def bytes_text(num_bytes: float) -> str:
    """12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 999.5 or unit == "TB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    raise AssertionError("the last unit takes every number")
