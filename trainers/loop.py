"""`train`: one run of one configuration, from its newest checkpoint to the end of its leg.

The wall clock decides when to poll, to write a checkpoint and what the throughput columns say, and never enters the
mathematics: killed anywhere and resumed, a run on a CPU repeats the undisturbed losses bit for bit.

Several workers run the same loop. What depends on a clock or on an answer from outside is decided by the main one and
spread, two bytes a step (0.1 ms between two processes of one machine), so that all leave at the same step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Batch, Windows
from crossover.trainers.evaluate import WindowScores, score
from crossover.trainers.evaluation_row import evaluation_row, trial_end
from crossover.trainers.model.router import observed_routing
from crossover.trainers.optim import clip_gradients
from crossover.trainers.overfitting import StopRule, best_index, build_rule
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.routing_report import RoutingReport, routing_report
from crossover.trainers.rows import Evaluation, TrialEnd
from crossover.trainers.run import Progress, Run, StopRequest
from crossover.trainers.schedule import learning_rate, weight_decay
from crossover.trainers.shards import SavedTensors
from crossover.trainers.training_state import TrainingState, derived_seed, new_state
from crossover.trainers.trial_setup import TrialSetup, open_setup, window_facts
from crossover.trainers.world import World, open_world

__all__ = ["LegEnd", "train"]

Activity = Literal["training", "validating", "testing"]

_FINITE_CHECK_STEPS = 16  # reading the loss waits for the device; a count of steps, so that the last step is the same


@dataclass(frozen=True)
class LegEnd:
    """How a leg ended: the whole trial did, or it waits at the end of its leg, or somebody interrupted it."""

    status: Literal["ended", "paused", "interrupted"]
    end: TrialEnd | None = None


class _Interrupted(Exception):  # noqa: N818 - no error
    """Raised between two steps, where a checkpoint may be written."""


def train(config: TrialConfig, run: Run) -> LegEnd:
    """Trains, evaluates and records until the trial or the leg ends; goes on with what the record holds.

    Every worker of several calls it, with the same configuration.

    Args:
        config: the whole of the run.
        run: where it runs: the trial's folder, the end of the leg, who is told and asked.

    Raises:
        CrossoverError: the configuration cannot be run here, or the record cannot be read or written.
    """
    with open_world(config.execution.device) as world:
        setup = world.together(lambda: _checked_setup(config, world))
        with open_record(run.directory, setup.facts(), world) as writer:
            if (end := world.from_main(writer.record.end() if world.is_main else None)) is not None:
                return LegEnd("ended", end)
            writer.write_window_facts(window_facts(setup.validation), window_facts(setup.test))
            setup.runtime.activate()
            leg = _begin_leg(setup, run, writer)
            try:
                return leg.go()
            except _Interrupted:
                leg.save()
                return LegEnd("interrupted")


def train_step(setup: TrialSetup, state: TrainingState) -> None:
    """One optimizer step of all workers, whose noise and dropout are those of its number."""
    config, step = setup.config, state.step
    batch = setup.subset.batch(step * config.schedule.batch_size, config.schedule.batch_size, config.seed)
    for rows in setup.micro_batches:
        minimized, nats = state.parallel(partial(_forward, setup, state, batch, rows))
        torch.autograd.backward(minimized / batch.num_tokens)
        state.nats += nats.detach()
    state.grad_norm = clip_gradients(state.model, config.optimizer.gradient_clip)
    state.learning_rate = learning_rate(step, setup.num_steps, config.schedule, config.optimizer.learning_rate)
    state.optimizer.step(state.learning_rate, weight_decay(step, setup.num_steps, config.optimizer))
    state.optimizer.zero_grad()
    state.averages.update(step + 1)
    state.rebalance_experts(setup.world)

    state.step += 1
    state.tokens_seen += batch.num_tokens
    state.num_tokens += batch.num_tokens


def _forward(setup: TrialSetup, state: TrainingState, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """What is minimized, and the nats in it, of some rows of the global batch, summed over tokens.

    Noise is drawn for all of the batch, dropout for these rows.
    """
    seed, step = setup.config.seed, state.step
    noise = torch.Generator().manual_seed(derived_seed(seed, "noise", step))
    torch.manual_seed(derived_seed(seed, "dropout" if rows.start == 0 else f"dropout from row {rows.start}", step))
    with setup.runtime.autocast(), observed_routing(state.model) as routing:
        loss = setup.objective.training_loss(state.model, batch, noise, rows)
    if (counts := routing.counts) is not None:
        state.expert_counts = counts if state.expert_counts is None else state.expert_counts + counts
    auxiliary = [term for term in (loss.auxiliary_nats, routing.loss) if term is not None]
    return sum(auxiliary, loss.nats), loss.nats


def _checked_setup(config: TrialConfig, world: World) -> TrialSetup:
    setup = open_setup(config, world)
    setup.check_world()
    return setup


@dataclass
class _Leg:
    """From the newest checkpoint to the end of the leg."""

    setup: TrialSetup
    run: Run
    writer: RecordWriter
    state: TrainingState
    rule: StopRule
    rows: list[Evaluation]
    best: WindowScores | None
    committed: tuple[int, StopRequest | None]
    unwritten_windows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    unwritten_best: tuple[int, Mapping[str, torch.Tensor]] | None = None
    committed_at: float = field(default_factory=time.monotonic)
    polled_at: float = -math.inf

    def go(self) -> LegEnd:
        """To the end of the trial or of the leg."""
        while True:
            if self._evaluation_is_due():
                self._evaluate()
            if (ending := self._ending()) is not None:
                return LegEnd("ended", self._finish(ending))
            if self._leg_is_over():
                self.save()
                return LegEnd("paused")
            self._train_on()

    def save(self) -> None:
        """Commits what was trained, evaluated or decided since the last commit."""
        if self.unwritten_windows or self.committed != (self.state.step, self.state.ending):
            self.state.clock.lap("training")
            self._commit()

    def _train_on(self) -> None:
        """Until an evaluation is due, the leg is over or the trial ends."""
        setup, state, poll_seconds = self.setup, self.state, self.setup.config.checkpoint.poll_seconds
        self._ask("training")
        while state.ending is None and not self._evaluation_is_due() and not self._leg_is_over():
            train_step(setup, state)
            if state.step % _FINITE_CHECK_STEPS == 0:
                self._check_that_the_loss_is_finite()
            poll_is_due = time.monotonic() - self.polled_at >= poll_seconds
            poll, commit = setup.world.flags_from_main(poll_is_due, self._commit_is_due())
            if poll:
                self._ask("training")
            if commit:
                self.save()

    def _check_that_the_loss_is_finite(self) -> None:
        if not math.isfinite(nats := self.state.total_nats(self.setup.world)):
            self.state.ending = StopRequest("diverged", f"the training loss is {nats} by step {self.state.step}")

    def _evaluation_is_due(self) -> bool:
        """Nothing is evaluated twice, and what was trained before an end is evaluated."""
        evaluated = self.rows[-1].step if self.rows else 0
        wanted = self.state.ending is not None or self.state.step in self.setup.evaluation_steps
        return wanted and self.state.step > evaluated

    def _commit_is_due(self) -> bool:
        """Rows follow one another fast at first, and a commit costs more than a step: some wait for the next one."""
        checkpoint = self.setup.config.checkpoint
        patience = checkpoint.interval_seconds
        if self.unwritten_windows:
            patience = min(patience, checkpoint.min_interval_seconds)
        return time.monotonic() - self.committed_at >= patience

    def _leg_is_over(self) -> bool:
        return self.run.until_tokens is not None and self.state.tokens_seen >= self.run.until_tokens

    def _ending(self) -> StopRequest | None:
        """Why the trial ends, by a request or by its own history; a resumed leg comes to the same."""
        if self.state.ending is not None:
            return self.state.ending
        verdict = self.rule.verdict(self.rows)
        if verdict.reason is not None:
            return StopRequest(verdict.reason, verdict.evidence)
        if self.state.step >= self.setup.num_steps:
            return StopRequest("completed", f"all {self.setup.config.schedule.epochs:g} epochs are done")
        return None

    def _evaluate(self) -> None:
        """Scores the averaged weights; the row, its windows and a checkpoint are committed together."""
        config, state = self.setup.config.evaluation, self.state
        state.nats.item()  # waits for the device, so that the clock is right
        state.clock.lap("training")
        self._ask("validating")
        with state.averages.swapped_in():
            scores = self._score(self.setup.validation, config.masks_per_window)
            routing = self._look_at_routing()
        row = evaluation_row(self.setup, state, self.rows, scores, self.best, routing)
        self.rows.append(self.setup.world.from_main(row))  # its columns of the clock differ
        is_best = best_index(self.rows) == len(self.rows) - 1
        state.begin_stretch()
        self.unwritten_windows[state.step] = scores.nats_W
        if is_best:
            self.best = scores
            self.unwritten_best = state.step, _copied(state.averaged_weights())
        if self.setup.world.flags_from_main(self._commit_is_due())[0]:
            self._commit()
        if self.setup.world.is_main:
            self.run.evaluated(self.rows[-1])

    def _finish(self, ending: StopRequest) -> TrialEnd:
        """Scores the test windows once, at the best averaged weights, and writes the end."""
        self.save()  # if the test is cut off, what was decided stands, and what is asked meanwhile changes nothing
        self._ask("testing")
        test = None
        if self.best is not None:
            self.writer.wait()
            self.state.set_weights(SavedTensors([self.writer.record.best_weights()]))
            test = self._score(self.setup.test, self.setup.config.evaluation.test_masks_per_window)
        end = self.setup.world.from_main(trial_end(self.setup, self.state, self.rows, ending, test))
        self.writer.finish(end, None if test is None else test.nats_W)
        return end

    def _score(self, windows: Windows, num_masks: int) -> WindowScores:
        setup = self.setup
        seed, model = setup.config.evaluation.seed, self.state.model
        with setup.runtime.autocast():
            scores = self.state.parallel.evaluate(
                lambda: score(model, setup.objective, windows, num_masks, seed, world=setup.world)
            )
        self.state.clock.lap("evaluation")
        return scores

    def _look_at_routing(self) -> RoutingReport | None:
        setup, state = self.setup, self.state
        seed = setup.config.evaluation.seed
        with setup.runtime.autocast():
            report = state.parallel.evaluate(
                lambda: routing_report(state.model, setup.objective, setup.validation, seed, state.choices)
            )
        if report is not None:
            state.choices = report.choices
        return report

    def _commit(self) -> None:
        checkpoint = self.state.checkpoint(self.setup.world)
        self.writer.commit(self.rows, checkpoint, window_nats=self.unwritten_windows, best=self.unwritten_best)
        self.unwritten_windows, self.unwritten_best = {}, None
        self.state.clock.lap("commit")
        self.committed, self.committed_at = (self.state.step, self.state.ending), time.monotonic()

    def _ask(self, activity: Activity) -> None:
        """Tells where the trial stands and hears whether it is to stop: at once to go on later, or for good."""
        state, setup = self.state, self.setup
        if activity == "training":
            state.clock.lap("training")
        request = None
        if setup.world.is_main:
            request = self.run.should_stop(self._progress(activity))
        request = setup.world.from_main(request)
        self.polled_at = time.monotonic()
        if request is not None and request.reason == "interrupted":
            raise _Interrupted
        state.ending = state.ending or request

    def _progress(self, activity: Activity) -> Progress:
        state, setup, num_rows = self.state, self.setup, len(self.rows)
        is_evaluated = state.step == (self.rows[-1].step if self.rows else 0)
        is_tested = num_rows > 0 or not is_evaluated
        return Progress(
            trial_id=setup.trial_id,
            step=state.step,
            num_steps=setup.num_steps,
            epoch=state.tokens_seen / setup.subset.unique_tokens,
            tokens_per_second=state.tokens_per_second,
            activity=activity,
            flops=setup.train_flops_per_token * state.tokens_seen + num_rows * setup.validation_flops,
            ending_flops=(not is_evaluated) * setup.validation_flops + is_tested * setup.test_flops,
        )


def _begin_leg(setup: TrialSetup, run: Run, writer: RecordWriter) -> _Leg:
    """A leg at the newest valid checkpoint, or before the first step."""
    state, rows, best = new_state(setup), [], None
    if (restored := writer.restore()) is not None:
        state.restore(restored.checkpoint, setup.world)
        rows = restored.evaluations
        best = _best_scores(setup, writer)
    state.clock.start()
    return _Leg(setup, run, writer, state, build_rule(setup.config.stopping), rows, best, (state.step, state.ending))


def _best_scores(setup: TrialSetup, writer: RecordWriter) -> WindowScores | None:
    if writer.best_step is None:
        return None
    windows = setup.validation
    nats_W = writer.record.window_nats(writer.best_step)
    return WindowScores(nats_W, windows.num_tokens_W, windows.num_bytes_W, windows.document_W)


def _copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}
