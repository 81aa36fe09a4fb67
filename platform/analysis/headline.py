"""The answer over all settings of a study in two or three sentences: what stands first on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crossover.platform.analysis.answers import Answer, PairAnswer
from crossover.platform.analysis.crossings import Crossing
from crossover.platform.analysis.wording import established

__all__ = ["headline"]


def headline(found: Answer) -> tuple[str, ...]:
    """Who is ahead and where the curves cross, counted over settings; nothing where there is one setting or none."""
    compared = [pair for pair in found.pairs if pair.test or pair.equal_epochs or pair.envelope]
    return tuple(_sentences(compared)) if len(compared) > 1 else ()


def _sentences(pairs: Sequence[PairAnswer]) -> Iterator[str]:
    tests = [pair.test for pair in pairs if pair.test]
    if tests:
        ahead = sum(test.decided and test.mean < 0 for test in tests)
        behind = sum(test.decided and test.mean > 0 for test in tests)
        rest = len(tests) - ahead - behind
        yield (
            f"On test, masked diffusion (MDM) is ahead in {ahead} of {len(tests)} settings and autoregressive (AR) in "
            f"{behind}" + (f"; in {rest} these data show no difference." if rest else ".")
        )
    yield from _crossings([pair.equal_epochs for pair in pairs if pair.equal_epochs], "AR at equal epochs")
    yield from _crossings([pair.envelope for pair in pairs if pair.envelope], "AR's best so far")


def _crossings(crossings: Sequence[Crossing], target: str) -> Iterator[str]:
    if not crossings:
        return
    known = [c.epochs.estimate for c in crossings if established(c) and c.epochs.estimate is not None]
    last = max(c.last_epoch for c in crossings)
    if not known:
        yield f"Against {target}, MDM is below nowhere within the {last:.3g} epochs that were measured."
        return
    low, high = f"{min(known):.3g}", f"{max(known):.3g}"
    when = f"after {low} epochs" if low == high else f"after {low} to {high} epochs"
    yield f"Against {target}, MDM goes below in {len(known)} of {len(crossings)} settings, {when}."
