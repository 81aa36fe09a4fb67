"""A trial in virtual time: the evaluations, stop rule and FLOPs of a real one, with losses from a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from crossover.platform.search.plan import Outcome
from crossover.platform.search.schedulers import CurvePoint
from crossover.platform.search.simulation.curves import Curve
from crossover.trainers.config import TrialConfig
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.flops import evaluation_flops, training_flops_6nd, training_flops_per_token
from crossover.trainers.model.shapes import ModelShape
from crossover.trainers.objectives import Objective, build
from crossover.trainers.overfitting import StopRule
from crossover.trainers.rows import Evaluation, StopReason
from crossover.trainers.run import StopRequest
from crossover.trainers.schedule import evaluation_steps, learning_rate, num_training_steps

__all__ = ["Costs", "Life", "SimulatedTrial", "costs_of"]


@dataclass(frozen=True)
class Costs:
    """FLOPs of a configuration's parts.

    Args:
        shape: of the model.
        token: training, a token.
        validation: one evaluation.
        test: the test at the end of a trial.
    """

    shape: ModelShape
    token: float
    validation: float
    test: float


def costs_of(config: TrialConfig, shape: ModelShape) -> Costs:
    """What a configuration costs, with every held-out window that it asks for there and full."""
    objective: Objective = build(config, BYTES)
    evaluation, length = config.evaluation, config.data.sequence_length

    def windows(number: int, masks: int) -> float:
        return evaluation_flops(shape, objective, np.full(number, length), masks)

    return Costs(
        shape,
        training_flops_per_token(shape, objective, length),
        windows(evaluation.validation_windows, evaluation.masks_per_window),
        windows(evaluation.test_windows, evaluation.test_masks_per_window),
    )


@dataclass
class Life:
    """What a trial shows if nobody stops it: made as far as anybody has looked, once for all who look.

    Args:
        trial_id: identity of the trial.
        config: of the trial.
        curve: its losses.
        costs: its FLOPs.
        rule: the stop rule, which is the real one.
        seed: of its noise.
    """

    trial_id: str
    config: TrialConfig
    curve: Curve
    costs: Costs
    rule: StopRule
    seed: int
    _rows: list[Evaluation] = field(default_factory=list)
    _endings: list[StopRequest | None] = field(default_factory=list)

    @cached_property
    def num_steps(self) -> int:
        """Optimizer steps to the end."""
        return num_training_steps(self.config.schedule, self._num_sequences)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Steps after which it is evaluated."""
        steps_per_epoch = self._num_sequences / self.config.schedule.batch_size
        return evaluation_steps(self.config.evaluation, steps_per_epoch, self.num_steps)

    def tokens(self, step: int) -> int:
        """Tokens seen after a step."""
        return round(step * self._tokens_per_step)

    def step_of(self, tokens: int) -> int:
        """The first step after which so many tokens have been seen, or the last one."""
        step = max(1, math.ceil(tokens / self._tokens_per_step - 1))
        while self.tokens(step) < tokens:
            step += 1
        return min(step, self.num_steps)

    def row(self, number: int) -> Evaluation:
        """Evaluation `number` of the grid, from 0."""
        while len(self._rows) <= number:
            place = len(self._rows)
            self._rows.append(self._row(self.grid[place], self._nats[place], self._rows))
            self._endings.append(self._ending(self._rows, self.grid[place]))
        return self._rows[number]

    def ending(self, number: int) -> StopRequest | None:
        """Why it ends by itself after evaluation `number` of the grid, if it does."""
        self.row(number)
        return self._endings[number]

    def row_between(self, step: int, before: Sequence[Evaluation]) -> Evaluation:
        """The evaluation after a step that is not on the grid: of a trial that was asked to stop."""
        nats = float(self.curve.nats(np.array([self._epoch(step)]))[0])
        return self._row(step, nats + self.curve.noise * self._noise[len(before)], before)

    @cached_property
    def _num_sequences(self) -> int:
        data = self.config.data
        return -(-data.unique_tokens // data.sequence_length)

    @cached_property
    def _tokens_per_step(self) -> float:
        return self.config.schedule.batch_size / self._num_sequences * self.config.data.unique_tokens

    @cached_property
    def _noise(self) -> list[float]:
        normals: list[float] = np.random.default_rng(self.seed).standard_normal(len(self.grid) + 1).tolist()
        return normals

    @cached_property
    def _nats(self) -> list[float]:
        """At every evaluation of the grid, noise included."""
        epochs = np.array([self._epoch(step) for step in self.grid])
        noisy: list[float] = (self.curve.nats(epochs) + self.curve.noise * np.array(self._noise[:-1])).tolist()
        return noisy

    def _epoch(self, step: int) -> float:
        return self.tokens(step) / self.config.data.unique_tokens

    def _ending(self, rows: Sequence[Evaluation], step: int) -> StopRequest | None:
        verdict = self.rule.verdict(rows)
        if verdict.reason is not None:
            return StopRequest(verdict.reason, verdict.evidence)
        if step >= self.num_steps:
            return StopRequest("completed", f"all {self.config.schedule.epochs:g} epochs are done")
        return None

    def _row(self, step: int, nats: float, before: Sequence[Evaluation]) -> Evaluation:
        best = before[-1].best_val_loss if before else math.inf
        rises, error = nats > best, self.curve.error
        tokens, bits = self.tokens(step), self.curve.bits_per_nat
        return Evaluation(
            step=step,
            epoch=self._epoch(step),
            tokens_seen=tokens,
            unique_tokens=self.config.data.unique_tokens,
            train_flops=self.costs.token * tokens,
            train_flops_6nd=training_flops_6nd(self.costs.shape, tokens),
            eval_flops=self.costs.validation * (len(before) + 1),
            wall_seconds=0.0,
            eval_seconds=0.0,
            train_loss=None,
            val_loss=nats,
            val_loss_se=error,
            val_loss_se_mc=0.0,
            val_bits_per_byte=nats * bits,
            val_bits_per_byte_se=error * bits,
            rise_over_best=nats - best if rises else 0.0,
            rise_over_best_se=error if rises else 0.0,
            best_val_loss=min(best, nats),
            raw_val_loss=None,
            learning_rate=learning_rate(
                step - 1, self.num_steps, self.config.schedule, self.config.optimizer.learning_rate
            ),
            grad_norm=None,
            tokens_per_second=None,
            mfu=None,
            peak_memory_bytes=0,
            precision="float32",
            device="simulated",
        )


@dataclass
class SimulatedTrial:
    """How far one study has brought a trial."""

    life: Life
    step: int = 0
    rows: list[Evaluation] = field(default_factory=list)
    points: list[CurvePoint] = field(default_factory=list)
    best: float | None = None  # bits per byte
    ended: StopReason | None = None
    tested: bool = False

    @property
    def trial_id(self) -> str:
        """Identity of the trial."""
        return self.life.trial_id

    @property
    def next_evaluation(self) -> int:
        """Step of the next evaluation."""
        return self.life.grid[min(len(self.rows), len(self.life.grid) - 1)]

    @property
    def flops(self) -> float:
        """Of training and evaluation so far, what no row tells yet included."""
        costs = self.life.costs
        test = costs.test if self.tested else 0.0
        return costs.token * self.life.tokens(self.step) + costs.validation * len(self.rows) + test

    def outcome(self) -> Outcome:
        """What its record would say."""
        flops = self.flops if self.ended is not None else self.points[-1].flops if self.points else 0.0
        return Outcome(self.ended is not None, self.best, flops, self.ended, self.points)

    def evaluate(self) -> Evaluation:
        """Evaluates it where it is."""
        number = len(self.rows)
        is_due = self.step == self.next_evaluation
        row = self.life.row(number) if is_due else self.life.row_between(self.step, self.rows)
        self.rows.append(row)
        self.points.append(CurvePoint(row.tokens_seen, row.val_bits_per_byte, self.flops))
        if self.best is None or row.val_bits_per_byte < self.best:
            self.best = row.val_bits_per_byte
        return row

    def ending(self) -> StopRequest | None:
        """Why it ends by itself after its newest evaluation, if it does."""
        return self.life.ending(len(self.rows) - 1) if self.rows else None

    def train_to_the_end(self) -> None:
        """Undisturbed, test included."""
        while self.ended is None:
            self.step = self.next_evaluation
            self.evaluate()
            if (request := self.ending()) is not None:
                self.tested, self.ended = True, request.reason
