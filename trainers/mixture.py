"""How a mixture of corpora is written: as a mapping in a study, as one line everywhere else.

    corpus: {./wiki: {weight: 0.7}, python-stdlib: {weight: 0.3, repeats: 4}}
    corpus: 0.7 * ./wiki + 0.3 * python-stdlib x 4

The weight of a corpus is its share of the tokens that training reads. A pass over the mixture reads each corpus as
often as its repeats say, so of U unique tokens it gives the share weight / repeats over the sum of these: what is
repeated four times needs a quarter of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MixturePart", "mixture_text", "parse_mixture", "unique_tokens_of"]

_TERM = re.compile(r"(?P<weight>\S+) \* (?P<name>.+?)(?: x (?P<repeats>\S+))?")
_KEYS = ("weight", "repeats")


@dataclass(frozen=True)
class MixturePart:
    """A corpus of a mixture.

    Args:
        name: as `data.corpus` would name it alone.
        weight: share of the tokens that are read; those of a mixture sum to 1.
        repeats: how often a pass over the mixture reads its unique tokens.
    """

    name: str
    weight: float
    repeats: int = 1

    def __str__(self) -> str:
        return f"{self.weight:.12g} * {self.name}" + (f" x {self.repeats}" if self.repeats > 1 else "")


def parse_mixture(text: str) -> tuple[MixturePart, ...]:
    """The parts of a mixture; empty: the text names one corpus.

    Raises:
        ValueError: weights or repeats are no such numbers, a corpus is named twice, or the weights do not sum to 1.
    """
    if " * " not in text:
        return ()
    parts = []
    for term in text.split(" + "):
        found = _TERM.fullmatch(term.strip())
        if found is None:
            raise ValueError(f"{term.strip()!r} in mixture {text!r} is no part of it: write WEIGHT * CORPUS x REPEATS")
        weight, repeats = found["weight"], found["repeats"] or "1"
        parts.append(MixturePart(found["name"], _number(weight, found["name"]), _count(repeats, found["name"])))
    _check(parts)
    return tuple(parts)


def mixture_text(value: Any) -> Any:
    """A mixture that was given as a mapping, as one line; anything else as it is.

    Raises:
        ValueError: see `parse_mixture`.
    """
    if isinstance(value, str):
        parse_mixture(value)
        return value
    if not isinstance(value, Mapping):
        return value
    parts = []
    for name, settings in value.items():
        if not isinstance(settings, Mapping) or "weight" not in settings or (set(settings) - set(_KEYS)):
            raise ValueError(
                f"corpus {name!r} of a mixture needs {{weight: 0.5}}, and may have repeats: got {settings!r}"
            )
        repeats = settings.get("repeats", 1)
        parts.append(MixturePart(str(name), _number(settings["weight"], name), _count(repeats, name)))
    _check(parts)
    return " + ".join(map(str, parts))


def unique_tokens_of(parts: Sequence[MixturePart], unique_tokens: int) -> list[int]:
    """Unique tokens of each corpus, together `unique_tokens`.

    Rounded down but for the corpus with the most, which has the rest: so budgets are nested, to a token a corpus.
    """
    needs = [part.weight / part.repeats for part in parts]
    shares = [math.floor(unique_tokens * need / math.fsum(needs)) for need in needs]
    largest = needs.index(max(needs))
    shares[largest] += unique_tokens - sum(shares)
    return shares


def _number(value: Any, name: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if isinstance(value, bool) or not 0 < weight <= 1:
        raise ValueError(f"the weight of corpus {name!r} is {value!r} and must be a number above 0, 1 at most")
    return weight


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(value) <= 10_000:
        raise ValueError(f"the repeats of corpus {name!r} are {value!r} and must be a whole number, 1 to 10,000")
    return int(value)


def _check(parts: Sequence[MixturePart]) -> None:
    names = [part.name for part in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"corpus {twice!r} is named twice in a mixture: name it once, with the sum of the weights")
    total = math.fsum(part.weight for part in parts)
    if not math.isclose(total, 1, abs_tol=1e-6):
        listed = " + ".join(f"{part.weight:g}" for part in parts)
        raise ValueError(f"the weights of a mixture must sum to 1, and {listed} = {total:g}")
