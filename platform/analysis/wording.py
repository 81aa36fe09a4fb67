"""The answer in plain words. Every number comes from the record; nobody is ahead where the data leave it open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crossover.platform.analysis.crossings import Crossing, Quantiles

if TYPE_CHECKING:
    from crossover.platform.analysis.answers import Best
    from crossover.platform.analysis.comparisons import Mean
    from crossover.platform.analysis.selection import Stratum

__all__ = [
    "SHORT",
    "ahead_label",
    "ahead_sentence",
    "amount",
    "best_sentence",
    "crossing_label",
    "crossing_sentence",
    "crossing_words",
    "epochs_interval",
    "established",
    "left_out",
    "lost",
    "missing",
    "other_windows",
    "signed",
    "title",
    "too_little_validation",
    "unfinished",
    "without_objective",
]

SHORT = {"autoregressive": "AR", "masked_diffusion": "MDM"}
_FEW = 0.025
_HALF = 0.5
_NAMED = 3


def without_objective(stratum: str) -> str:
    """A stratum's label, but for its objective: what tells strata of one objective apart."""
    return " ".join(word for word in stratum.split() if not word.startswith("objective="))


def title(setting: Mapping[str, Any], *, tuned: bool, same_recipe: bool, num_objectives: int) -> str:
    """Heading of a pair."""
    both = "Each tuned by itself" if tuned else "Same recipe for both" if same_recipe else "One recipe each"
    kind = both if num_objectives > 1 else "One objective"
    rest = ", ".join(f"{path} = {value}" for path, value in setting.items() if path != "recipe")
    return f"{kind} ({rest})" if rest else kind


def amount(value: float | None, beyond: str = "beyond what was measured") -> str:
    """A count in three digits with its unit prefix: 2.3M, 41k; powers of ten past 10^15."""
    if value is None:
        return beyond
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= value < 1e15:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _epochs(value: float | None, last: float) -> str:
    return f"beyond {last:.3g}" if value is None else f"{value:.3g}"


def epochs_interval(crossing: Crossing) -> str:
    """Estimate and 95 % interval in epochs: 92 [70, beyond 200]."""
    q, last = crossing.epochs, crossing.last_epoch
    if q.low is None:
        return f"none up to {last:.3g}"
    return f"{_epochs(q.estimate, last)} [{_epochs(q.low, last)}, {_epochs(q.high, last)}]"


def signed(value: float) -> str:
    """A difference in bits per byte, with a sign as wide as its digits."""
    return f"{value:+.3f}".replace("-", "−")


def _difference(mean: Mean) -> str:
    return f"{signed(mean.mean)} [{signed(mean.low)}, {signed(mean.high)}]"


def crossing_words(crossings: Sequence[Crossing]) -> tuple[str, ...]:
    """A sentence for each crossing; one for both where neither is there and the gap is the same."""
    if len(crossings) == 2 and not any(established(c) for c in crossings) and crossings[0].gap == crossings[1].gap:
        return (crossing_sentence(crossings[0], "AR at equal epochs, and against its best so far"),)
    return tuple(crossing_sentence(crossing) for crossing in crossings)


def established(crossing: Crossing) -> bool:
    """Whether the data as they are cross, and most draws with them."""
    return crossing.epochs.estimate is not None and crossing.probability_none <= _HALF


def crossing_sentence(crossing: Crossing, target: str | None = None) -> str:
    """Where, how sure, and in which range."""
    measured = f"the {crossing.last_epoch:.3g} epochs in which both were measured"
    target = target or ("AR at equal epochs" if crossing.against == "equal_epochs" else "AR's best so far")
    none = crossing.probability_none
    if crossing.epochs.estimate is None or not established(crossing):
        gap = _gap(crossing.gap)
        share = f"; {1 - none:.0%} of the resamples cross" if none < 1 else ""
        return f"Against {target}: nowhere yet. Within {measured}, MDM does not go below it for good; {gap}{share}."
    spent = f"{amount(crossing.tokens.estimate)} tokens, {amount(crossing.flops.estimate)} FLOPs of MDM"
    if crossing.epochs.estimate <= crossing.first_epoch * (1 + 1e-9):
        place = f"from the first common evaluation on, epoch {crossing.first_epoch:.3g}"
    elif crossing.carried_forward:
        place = f"by epoch {epochs_interval(crossing)} at the latest"
    else:
        place = f"after {epochs_interval(crossing)} epochs"
    doubt = f" In {none:.0%} of the resamples there is no crossing within {measured}." if none > _FEW else ""
    return f"Against {target}: MDM is below {place} ({spent}).{_carried(crossing)}{doubt}"


def crossing_label(crossing: Crossing) -> str:
    """The same for a figure, in half a line."""
    what = "MDM below AR" if crossing.against == "equal_epochs" else "MDM below AR's best"
    if not established(crossing):
        return f"{what}: nowhere up to {crossing.last_epoch:.3g} epochs"
    return f"{what}: {epochs_interval(crossing)} epochs" + (" at the latest" if crossing.carried_forward else "")


def ahead_label(test: Mean | None) -> str:
    """Who is ahead on test, for a figure."""
    if test is None:
        return "not scored on test yet"
    seeds = _seeds(test.num_seeds)
    if not test.decided:
        return f"test: no difference shown, MDM − AR {_difference(test)} ({seeds})"
    return f"test: {'AR' if test.mean > 0 else 'MDM'} ahead by {_size(test)} bits/byte ({seeds})"


def _size(test: Mean) -> str:
    low, high = sorted((abs(test.low), abs(test.high)))
    return f"{abs(test.mean):.3f} [{low:.3f}, {high:.3f}]"


def _carried(crossing: Crossing) -> str:
    if not crossing.carried_forward:
        return ""
    return (
        f" AR was stopped while it overfitted, from epoch {crossing.carried_from_epoch:.3g} on; its last value is "
        "carried forward, which is a lower bound of where it was going."
    )


def _gap(gap: Quantiles) -> str:
    if gap.estimate is None or gap.low is None or gap.high is None:
        return "the gap at the end is not finite"
    return (
        f"at the end MDM − AR is {signed(gap.estimate)} [{signed(gap.low)}, {signed(gap.high)}] bits/byte on validation"
    )


def ahead_sentence(test: Mean) -> str:
    """Who is ahead on test, if anybody."""
    seeds = _seeds(test.num_seeds)
    if test.num_seeds == 1:
        seeds += ": says nothing of other data and initialisations"
    if not test.decided:
        size = _difference(test)
        return f"No difference on test that these data can show: MDM − AR is {size} bits/byte ({seeds})."
    ahead, bound = (
        ("AR", "MDM's figure is an upper bound, so the true gap may be smaller")
        if test.mean > 0
        else ("MDM", "MDM's figure is an upper bound, so the true gap is at least as large")
    )
    return f"{ahead} ahead by {_size(test)} bits/byte on test ({seeds}). {bound}."


def best_sentence(best: Best) -> str:
    """The best of one objective on test, or on validation where there is no test yet."""
    name = SHORT.get(best.objective, best.objective)
    kind = "ELBO, an upper bound" if best.is_bound else "exact"
    epochs = f"best after {_span(best.best_epochs)} epochs, {_seeds(len(best.trial_ids))}"
    if best.test is None:
        return f"Best {name}: {best.validation:.3f} bits/byte on validation ({kind}), {epochs}; not scored on test yet."
    return f"Best {name}: {best.test.mean:.3f} {_at_least_zero(best.test)} bits/byte on test ({kind}), {epochs}."


def _at_least_zero(mean: Mean) -> str:
    """The interval of a score, which cannot be negative, though Student's t with two seeds does not know."""
    return f"[{max(mean.low, 0.0):.3f}, {mean.high:.3f}]"


def _seeds(num: int) -> str:
    return "one seed" if num == 1 else f"{num} seeds"


def _span(values: tuple[float, ...]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def unfinished(counts: Mapping[str, int]) -> str:
    """That the study goes on."""
    open_trials = ", ".join(f"{counts[s]} {s}" for s in ("running", "paused", "waiting") if s in counts)
    total = sum(counts.values())
    return f"The study is not finished ({open_trials} of {total} trials): what follows is what is known so far."


def lost(folders: Sequence[str]) -> str:
    """That trials ended and their records are gone."""
    shown = ", ".join(folders[:_NAMED]) + (", ..." if len(folders) > _NAMED else "")
    them = "1 trial that ended has" if len(folders) == 1 else f"{len(folders)} trials that ended have"
    return (
        f"{them} no record any more, and what follows is without it: {shown}. Put it back, or run the study again, "
        "which trains what is missing."
    )


def left_out(num: int, total: int, why: str) -> str:
    """Seeds that a comparison lacks."""
    return f"{num} of {total} seeds left out: {why}."


def too_little_validation(difference: float, resolved: float, num_documents: int) -> str:
    """That the choice on validation rests on too little text for its difference."""
    told = f"{resolved:.3f} and more" if math.isfinite(resolved) else "nothing"
    return (
        f"The validation split is too small for the difference between the best checkpoints, {signed(difference)} bits "
        f"per byte: its windows, of {num_documents} documents, tell {told} from chance. Raise "
        "evaluation.validation_windows, or hold out more text."
    )


def other_windows(split: str) -> str:
    """Trials that cannot be paired."""
    return (
        f"The trials were scored on different {split} windows, so they cannot be compared: "
        "give both objectives the same evaluation settings."
    )


def missing(strata: Mapping[str, Stratum], matched: Mapping[int, object]) -> Iterator[str]:
    """What keeps a pair from being compared."""
    for name, short in SHORT.items():
        if name not in strata:
            yield f"No {short} trial in this setting, so there is nothing to compare with."
        elif strata[name].chosen is None:
            yield f"No {short} trial has a finite evaluation yet."
    if not matched and all(name in strata and strata[name].chosen for name in SHORT):
        yield "The chosen configurations have no seed in common, so nothing is paired."
