"""The row of an evaluation, and how a trial ended, from what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from crossover.trainers.device import peak_memory_bytes
from crossover.trainers.evaluate import WindowScores, paired
from crossover.trainers.flops import device_peak_flops, mfu, training_flops_6nd
from crossover.trainers.overfitting import best_index
from crossover.trainers.routing_report import RoutingReport
from crossover.trainers.rows import Evaluation, TrialEnd
from crossover.trainers.run import StopRequest
from crossover.trainers.training_state import TrainingState
from crossover.trainers.trial_setup import TrialSetup

__all__ = ["BRANCHES", "Branch", "evaluation_row", "trial_end"]

Branch = Literal["stable", "annealed"]
BRANCHES: tuple[Branch, ...] = ("stable", "annealed")


def evaluation_row(
    setup: TrialSetup,
    state: TrainingState,
    before: Sequence[Evaluation],
    scores: WindowScores,
    best: WindowScores | None,
    routing: RoutingReport | None = None,
    branch: Branch = "stable",
    measured: Mapping[str, Any] | None = None,
) -> Evaluation:
    """The row of the state that was just scored. All workers call it together.

    `raw_val_loss` is None while averaging is on: scoring the raw weights too would double what evaluation costs, and
    fewer windows or masks would give a number that compares with nothing. With averaging off it is `val_loss`.

    Args:
        setup: of the trial.
        state: as it stood after training; its clock has the evaluation.
        before: the rows before this one.
        scores: of the averaged weights, on the validation windows.
        best: scores of the best row of `before` on this branch; None where no loss was finite.
        routing: of the weights that were scored; None of a dense model.
        branch: whether these are averaged weights of the run, or those at the end of an annealed branch.
        measured: columns of what was measured beside the loss.
    """
    losses = [row.val_loss for row in before if row.branch == branch]
    rise, rise_se = _rise(scores, best)
    throughput = state.tokens_per_second
    unique_tokens = setup.subset.unique_tokens
    return Evaluation(
        step=state.step,
        epoch=state.tokens_seen / unique_tokens,
        tokens_seen=state.tokens_seen,
        unique_tokens=unique_tokens,
        train_flops=setup.train_flops_per_token * (state.tokens_seen + state.branch_tokens),
        train_flops_6nd=training_flops_6nd(setup.shape, state.tokens_seen),
        eval_flops=(len(before) + 1) * setup.validation_flops,
        wall_seconds=state.clock.total,
        eval_seconds=state.clock.seconds["evaluation"],
        train_loss=state.mean_loss(setup.world),
        val_loss=scores.loss,
        val_loss_se=scores.loss_se,
        val_loss_se_mc=scores.se_mc,
        val_bits_per_byte=scores.bits_per_byte,
        val_bits_per_byte_se=scores.bits_per_byte_se,
        rise_over_best=rise,
        rise_over_best_se=rise_se,
        best_val_loss=_least([*losses, scores.loss]),
        raw_val_loss=scores.loss if branch == "annealed" or not state.averages.is_on else None,
        learning_rate=state.learning_rate,
        grad_norm=None if state.grad_norm is None else state.grad_norm.item(),
        tokens_per_second=throughput,
        mfu=None if throughput is None else mfu(setup.train_flops_per_token, throughput, _peak(setup)),
        peak_memory_bytes=peak_memory_bytes(setup.runtime.device),
        router_max_load=None if routing is None else routing.max_load,
        router_entropy=None if routing is None else routing.entropy,
        router_agreement=None if routing is None else routing.agreement,
        **(measured or {}),
        decision_metric=setup.config.evaluation.decision_metric,
        branch=branch,
        decides=setup.config.annealing.decides == (branch == "annealed"),
        branch_flops=setup.train_flops_per_token * state.branch_tokens,
        precision=setup.runtime.precision,
        device=setup.runtime.description,
        world_size=setup.world.size,
        corpus_epochs=_corpus_epochs(setup, state),
    )


def trial_end(
    setup: TrialSetup,
    state: TrainingState,
    rows: Sequence[Evaluation],
    ending: StopRequest,
    test: WindowScores | None,
) -> TrialEnd:
    """How the trial ended; what was not measured, or was not finite, is None.

    Args:
        setup: of the trial.
        state: at its end.
        rows: all of them.
        ending: why.
        test: scores of the best averaged weights on the test windows; None where no evaluation was finite.
    """
    decisive = [row for row in rows if row.decides]
    position = best_index(decisive)
    return TrialEnd(
        stop_reason=ending.reason,
        stop_evidence=ending.evidence,
        **({} if position is None else _best(decisive[position])),
        final_bits_per_byte=_finite(decisive[-1].val_bits_per_byte) if decisive else None,
        **({} if test is None else _test(test)),
        tokens_seen=state.tokens_seen,
        train_flops=setup.train_flops_per_token * (state.tokens_seen + state.branch_tokens),
        eval_flops=len(rows) * setup.validation_flops + (0.0 if test is None else setup.test_flops),
        wall_seconds=state.clock.total,
        eval_seconds=state.clock.seconds["evaluation"],
    )


def _best(row: Evaluation) -> dict[str, Any]:
    return {
        "best_step": row.step,
        "best_epoch": row.epoch,
        "best_val_loss": row.val_loss,
        "best_bits_per_byte": row.val_bits_per_byte,
        "best_bits_per_byte_se": _finite(row.val_bits_per_byte_se),
    }


def _test(scores: WindowScores) -> dict[str, Any]:
    return {
        "test_loss": _finite(scores.loss),
        "test_loss_se": _finite(scores.loss_se),
        "test_loss_se_mc": _finite(scores.se_mc),
        "test_bits_per_byte": _finite(scores.bits_per_byte),
        "test_bits_per_byte_se": _finite(scores.bits_per_byte_se),
    }


def _rise(scores: WindowScores, best: WindowScores | None) -> tuple[float, float]:
    """Paired rise over the best and its error: 0 for a new best, NaN where a loss is not finite."""
    if not math.isfinite(scores.loss):
        return math.nan, math.nan
    if best is None or scores.loss < best.loss:
        return 0.0, 0.0
    rise = paired(scores, best)
    return rise.difference, rise.se


def _corpus_epochs(setup: TrialSetup, state: TrainingState) -> str | None:
    if len(setup.corpus.parts) == 1:
        return None
    cursor = state.step * setup.config.schedule.batch_size
    return json.dumps(setup.subset.epochs_by_corpus(cursor, setup.config.seed))


def _peak(setup: TrialSetup) -> float | None:
    """Of all workers' devices together: throughput is theirs together."""
    peak = device_peak_flops(setup.runtime.description, setup.runtime.precision)
    return None if peak is None else peak * setup.world.size


def _least(losses: Sequence[float]) -> float:
    return min((loss for loss in losses if math.isfinite(loss)), default=math.nan)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
