"""`train`: one run of one configuration, from its newest checkpoint to the end of its leg.

The wall clock decides when to poll, to write a checkpoint and what the throughput columns say, and never enters the
mathematics: killed anywhere and resumed, a run on a CPU repeats the undisturbed losses bit for bit.

Several workers run the same loop. What depends on a clock or on an answer from outside is decided by the main one and
spread, two bytes a step (0.1 ms between two processes of one machine), so that all leave at the same step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.annealing import branch_step, on_a_branch
from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Windows
from crossover.trainers.evaluate import WindowScores, score
from crossover.trainers.evaluation_row import BRANCHES, Branch, evaluation_row, trial_end
from crossover.trainers.overfitting import StopRule, best_index, build_rule
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.routing_report import RoutingReport, routing_report
from crossover.trainers.rows import Evaluation, TrialEnd
from crossover.trainers.run import Progress, Run, StopRequest
from crossover.trainers.shards import SavedTensors
from crossover.trainers.step import train_step
from crossover.trainers.training_state import TrainingState, new_state
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
        with open_record(run.directory, setup.facts(), world, run.published) as writer:
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


def _checked_setup(config: TrialConfig, world: World) -> TrialSetup:
    setup = open_setup(config, world)
    setup.check_world()
    return setup


@dataclass(frozen=True)
class _Scored:
    """Weights that were evaluated."""

    scores: WindowScores
    routing: RoutingReport | None
    measured: Mapping[str, Any]


@dataclass
class _Leg:
    """From the newest checkpoint to the end of the leg."""

    setup: TrialSetup
    run: Run
    writer: RecordWriter
    state: TrainingState
    rule: StopRule
    rows: list[Evaluation]
    best: dict[Branch, WindowScores]
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
            if self._branch_is_due():
                self._anneal()
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
        while state.ending is None and not self._something_is_due():
            train_step(setup, state)
            if state.step % _FINITE_CHECK_STEPS == 0:
                self._check_that_the_loss_is_finite()
            poll_is_due = time.monotonic() - self.polled_at >= poll_seconds
            poll, commit = setup.world.flags_from_main(poll_is_due, self._commit_is_due())
            if poll:
                self._ask("training")
            if commit:
                self.save()

    def _anneal(self) -> None:
        """A branch from here to its row; nothing is committed on it, and the run goes on as if it had not been."""
        setup, state, poll_seconds = self.setup, self.state, self.setup.config.checkpoint.poll_seconds
        begin, rate = state.step, setup.config.optimizer.learning_rate
        end = setup.branch_ends[begin]
        with on_a_branch(state):
            while state.step < end and state.ending is None:
                branch_step(setup, state, begin, end, rate)
                if setup.world.flags_from_main(time.monotonic() - self.polled_at >= poll_seconds)[0]:
                    self._ask("training")
            if state.ending is None:
                self._evaluate_branch()
        self._commit_if_due()

    def _check_that_the_loss_is_finite(self) -> None:
        if not math.isfinite(nats := self.state.total_nats(self.setup.world)):
            self.state.ending = StopRequest("diverged", f"the training loss is {nats} by step {self.state.step}")

    def _evaluation_is_due(self) -> bool:
        """Nothing is evaluated twice, and what was trained before an end is evaluated."""
        evaluated = self._evaluated_step
        wanted = self.state.ending is not None or self.state.step in self.setup.evaluation_steps
        return wanted and self.state.step > evaluated

    def _branch_is_due(self) -> bool:
        end = self.setup.branch_ends.get(self.state.step)
        return end is not None and self.state.ending is None and all(row.step != end for row in self.rows)

    def _something_is_due(self) -> bool:
        return self._evaluation_is_due() or self._branch_is_due() or self._leg_is_over()

    @property
    def _evaluated_step(self) -> int:
        """Of the run itself."""
        return max((row.step for row in self.rows if row.branch == "stable"), default=0)

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
        verdict = self.rule.verdict([row for row in self.rows if row.decides])
        if verdict.reason is not None:
            return StopRequest(verdict.reason, verdict.evidence)
        if self.state.step >= self.setup.num_steps:
            return StopRequest("completed", f"all {self.setup.config.schedule.epochs:g} epochs are done")
        return None

    def _evaluate(self) -> None:
        """Scores the averaged weights; the row, its windows and a checkpoint are committed together."""
        state = self.state
        state.nats.item()  # waits for the device, so that the clock is right
        state.clock.lap("training")
        self._ask("validating")
        with state.averages.swapped_in():
            scored = self._scores_of_the_weights("stable")
        self._take_row(scored, "stable", state.averaged_weights())
        if scored.routing is not None:
            state.choices = scored.routing.choices
        state.begin_stretch()
        self._commit_if_due()

    def _evaluate_branch(self) -> None:
        """Scores the weights at the end of a branch, which need no averaging."""
        self.state.nats.item()
        self.state.clock.lap("training")
        scored = self._scores_of_the_weights("annealed")
        self._take_row(scored, "annealed", self.state.model.weights())

    def _take_row(self, scored: _Scored, branch: Branch, weights: Mapping[str, torch.Tensor]) -> None:
        scores, best = scored.scores, self.best.get(branch)
        row = evaluation_row(
            self.setup, self.state, self.rows, scores, best, scored.routing, branch, measured=scored.measured
        )
        row = self.setup.world.from_main(row)  # its columns of the clock differ
        self.rows.append(row)
        self.unwritten_windows[row.step] = scores.nats_W
        of_branch = [each for each in self.rows if each.branch == branch]
        if best_index(of_branch) == len(of_branch) - 1:
            self.best[branch] = scores
            if row.decides:
                self.unwritten_best = row.step, _copied(weights)
        if self.setup.world.is_main:
            self.run.evaluated(row)

    def _commit_if_due(self) -> None:
        if self.setup.world.flags_from_main(self._commit_is_due())[0]:
            self._commit()

    def _finish(self, ending: StopRequest) -> TrialEnd:
        """Scores the test windows once, at the best averaged weights, and writes the end."""
        self.save()  # if the test is cut off, what was decided stands, and what is asked meanwhile changes nothing
        self._ask("testing")
        test = None
        if best_index([row for row in self.rows if row.decides]) is not None:
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

    def _scores_of_the_weights(self, branch: Branch) -> _Scored:
        """Of the weights that are in the model: the validation windows, and what else is measured."""
        setup, state, config = self.setup, self.state, self.setup.config.evaluation
        scores = self._score(setup.validation, config.masks_per_window)
        with setup.runtime.autocast():
            routing = state.parallel.evaluate(
                lambda: routing_report(state.model, setup.objective, setup.validation, config.seed, state.choices)
            )
        return _Scored(scores, routing, self._measure(branch))

    def _measure(self, branch: Branch) -> dict[str, Any]:
        """Columns of what is measured beside the loss."""
        setup, state = self.setup, self.state
        with setup.runtime.autocast():
            measured = state.parallel.evaluate(
                lambda: setup.measures.measure(state.model, setup.objective, setup.corpus.vocabulary, setup.world)
            )
        state.clock.lap("evaluation")
        columns = measured.columns(state.best_gaps.get(branch))
        if columns.get("task_gap_fall") == 0.0 and measured.gaps is not None:
            state.best_gaps[branch] = measured.gaps.tolist()
        return columns

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
        is_evaluated = state.step == self._evaluated_step
        is_tested = num_rows > 0 or not is_evaluated
        return Progress(
            trial_id=setup.trial_id,
            step=state.step,
            num_steps=setup.num_steps,
            epoch=state.tokens_seen / setup.subset.unique_tokens,
            tokens_per_second=state.tokens_per_second,
            activity=activity,
            flops=setup.train_flops_per_token * (state.tokens_seen + state.branch_tokens)
            + num_rows * setup.validation_flops,
            ending_flops=(not is_evaluated) * setup.validation_flops + is_tested * setup.test_flops,
        )


def _begin_leg(setup: TrialSetup, run: Run, writer: RecordWriter) -> _Leg:
    """A leg at the newest valid checkpoint, or before the first step."""
    state, rows = new_state(setup), []
    best: dict[Branch, WindowScores] = {}
    if (restored := writer.restore()) is not None:
        state.restore(restored.checkpoint, setup.world)
        rows = restored.evaluations
        best = _best_scores(setup, writer, rows)
    state.clock.start()
    return _Leg(setup, run, writer, state, build_rule(setup.config.stopping), rows, best, (state.step, state.ending))


def _best_scores(setup: TrialSetup, writer: RecordWriter, rows: Sequence[Evaluation]) -> dict[Branch, WindowScores]:
    """Of the run and of its branches, where there is a finite one."""
    found: dict[Branch, WindowScores] = {}
    windows = setup.validation
    for branch in BRANCHES:
        of_branch = [row for row in rows if row.branch == branch]
        if (position := best_index(of_branch)) is not None:
            nats_W = writer.record.window_nats(of_branch[position].step)
            found[branch] = WindowScores(nats_W, windows.num_tokens_W, windows.num_bytes_W, windows.document_W)
    return found


def _copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}
