"""Which family is crossed, and which crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossover.platform.analysis.scaling_laws.table import LossTableError
from crossover.search_spaces import near

__all__ = ["Pair", "pairs_of_families"]

_BASELINES = ("ar", "autoregressive")
_CHALLENGERS = ("dlm", "mdm", "masked_diffusion", "diffusion")


@dataclass(frozen=True)
class Pair:
    """Two families that differ in the objective alone.

    Args:
        baseline: autoregressive.
        challenger: masked diffusion.
        setting: what both have in common beyond size and tokens, as a study's families say it.
    """

    baseline: str
    challenger: str
    setting: str = ""


def pairs_of_families(
    families: Sequence[str], source: str, baseline: str | None = None, challenger: str | None = None
) -> list[Pair]:
    """The pairs in a table: those named, or those whose names are known.

    Raises:
        LossTableError: there is none, or a name is no family.
    """
    for name in (baseline, challenger):
        if name is not None and name not in families:
            raise LossTableError(f"{source} has no family {name}{near(name, families)}; it has {', '.join(families)}")
    if baseline is not None and challenger is not None:
        return [Pair(baseline, challenger)]
    pairs = []
    for family in families:
        name, comma, setting = family.partition(", ")
        if family == baseline or (baseline is None and name.lower() in _BASELINES):
            others = [
                other
                for other in families
                if other == challenger
                or (challenger is None and other != family and _is_challenger(other, comma + setting))
            ]
            pairs += [Pair(family, other, setting) for other in others]
    if not pairs:
        raise LossTableError(
            f"{source} has no two families to compare: it has {', '.join(families)}. Crossings are of one named "
            f"{' or '.join(_BASELINES)} and one named {' or '.join(_CHALLENGERS)}; name others with --baseline and "
            "--challenger"
        )
    return pairs


def _is_challenger(family: str, ending: str) -> bool:
    return family.endswith(ending) and family[: len(family) - len(ending)].lower() in _CHALLENGERS
