"""When a run has had enough: stop rules over the history of its evaluations, the same for every objective.

A rule is a value: its settings are frozen and its verdict is a pure function of the history, so a resumed trial, a
reader of the record and a simulation come to the verdict of the undisturbed run. Every rule compares a run with
itself, never with another, so nothing is stopped because it starts slowly.

Overfitting is a rise over the run's own best which is significant by the paired error, large enough to matter, and
seen at several evaluations in a row. The best is the smallest of many noisy values, so on a plateau a rise over it is
only to be expected, and grows with the number of evaluations; that part is not counted (see `ValidationRise`), or a
slow run would be stopped for having been looked at often. A second descent is given up when the rise before it lasts
for `patience` evaluations; 1.25 apart, 3 of them span 1.6 times the epochs. The best point is kept in every case.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from crossover.trainers.config import StoppingConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.rows import Evaluation, StopReason

__all__ = [
    "Divergence",
    "FirstOf",
    "GapFall",
    "Patience",
    "Plateau",
    "StopRule",
    "ValidationRise",
    "Verdict",
    "best_index",
    "build_rule",
    "register_rule",
    "rule_names",
]

History = Sequence[Evaluation]


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a history.

    Attributes:
        reason: why to stop; None is to go on.
        evidence: one sentence with its numbers, in both cases.
        best: index of the best evaluation so far; None where no loss is finite.
    """

    reason: StopReason | None
    evidence: str
    best: int | None

    @property
    def stop(self) -> bool:
        """Whether the run is to end."""
        return self.reason is not None


class StopRule(ABC):
    """One way to see that a run has had enough."""

    @abstractmethod
    def verdict(self, history: History) -> Verdict:
        """Judge a run by all its evaluations so far, oldest first, at most one a step and of the main branch."""


def best_index(history: History) -> int | None:
    """The evaluation with the smallest finite loss of decisions, the earlier of equals; None where there is none."""
    finite = [i for i, evaluation in enumerate(history) if math.isfinite(evaluation.decision_loss)]
    return min(finite, key=lambda i: history[i].decision_loss, default=None)


@dataclass(frozen=True)
class ValidationRise(StopRule):
    """The last evaluation lies above the best one, significantly and by enough.

    The error of a rise is that of the paired difference over windows, clustered by document; where it is NaN
    (unknown), no rise is significant. Losses that are not finite are left to `Divergence`.

    A rise must exceed z errors, and besides what choosing the smallest of n earlier values explains: for equal models
    that is E[largest of n normals] times the error of one, the rise's over sqrt(2). On a plateau of independent noise
    larger than `min_rise`, z = 2 with a patience of 3 so stops 0.2 % of runs of 40 evaluations; without the
    correction it would be 28 % (simulated in the tests). The price: a slow rise is seen an evaluation or two later.

    Attributes:
        min_rise: smallest rise that counts, nats per token.
        z: paired standard errors that it must exceed, beyond the choice of the best.
    """

    min_rise: float
    z: float

    def verdict(self, history: History) -> Verdict:
        """Stop as `overfit` where the last evaluation has risen."""
        best = best_index(history)
        if best is None:
            return _go_on("there is no finite validation loss yet", history)
        last = history[-1]
        rise, error = last.rise_over_best, last.rise_over_best_se
        needed = self.z + _expected_largest(len(history) - 1) / math.sqrt(2)
        evidence = (
            f"at epoch {last.epoch:.4g} the validation loss of {last.val_loss:.4f} nats per token is {rise:.4f} ± "
            f"{error:.4f} above the best, {history[best].val_loss:.4f} at epoch {history[best].epoch:.4g} (of "
            f"{len(history)} evaluations; a rise counts above {needed:.2f} errors and from {self.min_rise:g})"
        )
        risen = 0 < rise < math.inf and rise >= self.min_rise and rise > needed * error
        return Verdict("overfit", evidence, best) if risen else _go_on(evidence, history)


@dataclass(frozen=True)
class GapFall(StopRule):
    """The gap of the tasks lies below its best, significantly and by enough.

    It can go on growing long after the validation loss has begun to rise (arXiv 2511.03276), so this stops later than
    `ValidationRise`, whose test it is, with questions in the place of windows.

    Attributes:
        min_fall: smallest fall that counts, nats a question.
        z: paired standard errors that it must exceed, beyond the choice of the best.
    """

    min_fall: float
    z: float

    def verdict(self, history: History) -> Verdict:
        """Stop as `overfit` where the last gap has fallen; a history without gaps goes on."""
        measured = [evaluation for evaluation in history if evaluation.task_gap is not None]
        if not measured:
            return _go_on("there is no gap of tasks yet", history)
        last = measured[-1]
        fall, error = _known(last.task_gap_fall), _known(last.task_gap_fall_se)
        needed = self.z + _expected_largest(len(measured) - 1) / math.sqrt(2)
        evidence = (
            f"at epoch {last.epoch:.4g} the gap of {last.task_gap:.4f} nats a question is {fall:.4f} ± {error:.4f} "
            f"below its best (of {len(measured)} evaluations; a fall counts above {needed:.2f} errors and from "
            f"{self.min_fall:g})"
        )
        fallen = 0 < fall < math.inf and fall >= self.min_fall and fall > needed * error
        return Verdict("overfit", evidence, best_index(history)) if fallen else _go_on(evidence, history)


@dataclass(frozen=True)
class Patience(StopRule):
    """Another rule would have stopped at each of the last `evaluations` evaluations."""

    rule: StopRule
    evaluations: int

    def verdict(self, history: History) -> Verdict:
        """Stop for the wrapped rule's reason, if it held in a row."""
        last = verdict = self.rule.verdict(history)
        in_a_row = 0
        while verdict.stop and in_a_row < self.evaluations:
            in_a_row += 1
            verdict = self.rule.verdict(history[: len(history) - in_a_row])
        evidence = f"{last.evidence}, in {in_a_row} evaluations in a row of {self.evaluations} needed"
        return Verdict(last.reason if in_a_row == self.evaluations else None, evidence, last.best)


@dataclass(frozen=True)
class Plateau(StopRule):
    """The last `evaluations` evaluations brought no new best, however small.

    A run that has not begun to learn may look so too: the number is the user's choice, and off by default.
    """

    evaluations: int

    def verdict(self, history: History) -> Verdict:
        """Stop as `plateau` where the best is that many evaluations ago."""
        best = best_index(history)
        if best is None:
            return _go_on("there is no finite validation loss yet", history)
        waited = len(history) - 1 - best
        evidence = (
            f"{waited} evaluations without a new best since {history[best].val_loss:.4f} at epoch "
            f"{history[best].epoch:.4g} (a plateau: {self.evaluations})"
        )
        return Verdict("plateau" if waited >= self.evaluations else None, evidence, best)


@dataclass(frozen=True)
class Divergence(StopRule):
    """A loss that is not finite, or training that has become worse than it began.

    A validation loss above its first value is no sign: overfitting does that, to 10 nats from 3.6 in arXiv
    2511.03276. But then the training loss is low. A training loss (the mean since the evaluation before) that stays
    above that of the first evaluation, which still has the untrained model in it, is the mark of a blow-up.
    Where the training loss is missing (None), only non-finite values are seen.

    Attributes:
        margin: nats per token above the first evaluation's training loss. Of masked diffusion, 2,048
            training tokens have a standard deviation of 0.13 (measured), and an evaluation spans more.
        evaluations: how many in a row; one spike that recovers is no divergence.
    """

    margin: float = 0.5
    evaluations: int = 2

    def verdict(self, history: History) -> Verdict:
        """Stop as `diverged`, at once where a loss is NaN or infinite."""
        if not history:
            return _go_on("there is no evaluation yet", history)
        last = history[-1]
        for name, value in (("validation", last.val_loss), ("training", last.train_loss)):
            if value is not None and not math.isfinite(value):
                return self._diverged(f"the {name} loss is {value} at epoch {last.epoch:.4g}", history)
        if not self._is_worse_than_it_began([evaluation.train_loss for evaluation in history]):
            return _go_on("no loss is NaN or infinite, and training is not worse than it began", history)
        return self._diverged(
            f"the training loss, {last.train_loss:.4f} nats per token at epoch {last.epoch:.4g}, is more than "
            f"{self.margin:g} above the {history[0].train_loss:.4f} of the first, {self.evaluations} times in a row",
            history,
        )

    def _is_worse_than_it_began(self, losses: Sequence[float | None]) -> bool:
        first, recent = losses[0], losses[1:][-self.evaluations :]
        if first is None or len(recent) < self.evaluations:
            return False
        return all(loss is not None and loss > first + self.margin for loss in recent)

    def _diverged(self, evidence: str, history: History) -> Verdict:
        return Verdict("diverged", evidence, best_index(history))


@dataclass(frozen=True)
class FirstOf(StopRule):
    """The first rule, in this order, that stops."""

    rules: tuple[StopRule, ...]

    def verdict(self, history: History) -> Verdict:
        """Stop as the first rule that does; else go on, with what all of them see."""
        verdicts = [rule.verdict(history) for rule in self.rules]
        evidence = "; ".join(verdict.evidence for verdict in verdicts) or "no rule but the end of the run"
        return next((verdict for verdict in verdicts if verdict.stop), _go_on(evidence, history))


Builder = Callable[[StoppingConfig], StopRule]
_BUILDERS: dict[str, Builder] = {}


def register_rule(name: str) -> Callable[[Builder], Builder]:
    """Make a rule known as `stopping.rule: name`."""

    def register(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return register


def rule_names() -> tuple[str, ...]:
    """Names of the rules that are known."""
    return tuple(sorted(_BUILDERS))


def build_rule(config: StoppingConfig) -> StopRule:
    """The rule that a configuration asks for; divergence ends a run under every rule.

    Raises:
        ConfigError: there is no rule of this name.
    """
    if config.rule not in _BUILDERS:
        raise ConfigError(
            f"stopping.rule is {config.rule}, and the rules are {', '.join(rule_names())}: set one of them"
        )
    return FirstOf((Divergence(), _BUILDERS[config.rule](config)))


@register_rule("overfit")
def _overfit(config: StoppingConfig) -> StopRule:
    rise = Patience(ValidationRise(config.min_rise, config.z), config.patience)
    if config.plateau_evaluations is None:
        return rise
    return FirstOf((rise, Plateau(config.plateau_evaluations)))


@register_rule("task_gap")
def _task_gap(config: StoppingConfig) -> StopRule:
    return Patience(GapFall(config.min_rise, config.z), config.patience)


@register_rule("none")
def _none(config: StoppingConfig) -> StopRule:
    return FirstOf(())


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _expected_largest(num_values: int) -> float:
    """Expected largest of so many standard normals (Blom's approximation, within 0.02); 0 for one or none."""
    if num_values < 2:
        return 0.0
    return NormalDist().inv_cdf((num_values - 0.375) / (num_values + 0.25))


def _go_on(evidence: str, history: History) -> Verdict:
    return Verdict(None, evidence, best_index(history))
