"""`run_study`: from a study to its results, or on from where it stopped.

Resuming is running the same command again: a new Tune run, in a folder of its own, whose planner is rebuilt from the
decisions and the trials' records. Nothing of an earlier Tune run is read.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from rich.console import Console

from crossover.platform.execution.checkpoint_quota import CheckpointQuota, check_quota
from crossover.platform.execution.control import start_control
from crossover.platform.execution.decisions import (
    AttemptStarted,
    CohortDrawn,
    Decision,
    DecisionLog,
    RungDecided,
    StudyFinished,
    Suggested,
    TrialClosed,
    attempts,
)
from crossover.platform.execution.display import StudyDisplay
from crossover.platform.execution.driver import Interrupts, StudyDriver, Ticker
from crossover.platform.execution.leg import RemoteLegs, Train, TrialContext
from crossover.platform.execution.placement import leg_resources, num_slots, room_of_cluster
from crossover.platform.execution.preflight import check_data, check_machine
from crossover.platform.execution.ray_session import ray_session
from crossover.platform.execution.reaper import Reaper
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.study_folder import StudyFolder, study_folder
from crossover.platform.execution.study_workers import workers_of_study
from crossover.platform.execution.tracking import Tracking, check_tracking, open_tracking
from crossover.platform.execution.trial import make_trainable
from crossover.platform.execution.tune_searcher import TuneSearcher
from crossover.platform.execution.view import StudyView
from crossover.platform.execution.workers import Room
from crossover.platform.search.planner import Planner
from crossover.platform.search.study_plan import budget_of, plan_of
from crossover.platform.search.warm_start import warm_start_of
from crossover.platform.study import Study
from crossover.platform.study.model import ResourcesConfig, WorkerRange
from crossover.trainers.data import Corpus, MixedCorpus
from crossover.trainers.provenance import provenance
from crossover.trainers.storage import storage_error_in

__all__ = ["DONE", "INTERRUPTED", "NO_RESULT", "run_study"]

DONE, NO_RESULT, INTERRUPTED = 0, 3, 130


def run_study(
    study: Study,
    storage: str | Path | None = None,
    dry_run: bool = False,
    console: Console | None = None,
    train: Train | None = None,
) -> int:
    """Runs a study to its end, or goes on with one that was interrupted.

    Args:
        study: what to run.
        storage: folder of studies, or URI of one in an object store; None: the one that the study names.
        dry_run: print what would run and what it would cost, and start nothing.
        console: where to show it; None: the terminal.
        train: the training loop; None: `trainers.loop.train`. For tests.

    Returns:
        The exit code: 0 done, 3 ended without a usable result, 130 interrupted and resumable.

    Raises:
        CrossoverError: the study cannot run here, or another driver runs it.
    """
    console = console or Console()
    corpus = check_data(study)
    if dry_run:
        from crossover.platform.execution.dry_run import print_plan

        print_plan(study, corpus, console)
        return DONE
    check_tracking(study.tracking)
    if not (ray.is_initialized() or os.environ.get("RAY_ADDRESS")):
        check_machine(study)
    folder = study_folder(study, storage)
    with folder.held():
        folder.check_same(study, corpus.content_hash)
        return _Attempt(study, folder, corpus, console, train).run()


class _Attempt:
    """One driver's work on a study."""

    def __init__(
        self, study: Study, folder: StudyFolder, corpus: Corpus | MixedCorpus, console: Console, train: Train | None
    ) -> None:
        self._study, self._folder, self._corpus, self._console, self._train = study, folder, corpus, console, train
        history = attempts(folder.path)
        decisions = [line for lines in history for line in lines]
        self._resumed = bool(decisions)
        self._log: DecisionLog | None = None
        self._tracking: Tracking | None = None
        self._room, self._workers = Room(0), WorkerRange(min=1, max=1)  # until Ray says what there is
        self._results = RecordResults(folder.path, folder.remote)
        self._view = StudyView.of(study)
        self._view.replay(decisions, folder.path, driver_alive=False)
        self._budget = budget_of(study, history)
        warm_start = warm_start_of(study, corpus.content_hash, folder.path)
        if warm_start is not None:
            self._say(str(warm_start))
        plan = plan_of(study, corpus.content_hash, warm_start)
        self._planner = Planner(plan, self._results, self._decide, slots=0, history=decisions, budget=self._budget)

    def run(self) -> int:
        if not self._planner.has_work:
            if (evidence := self._planner.spent) is None:
                return self._nothing_to_do("is finished")
            return self._nothing_to_do(f"has no budget left ({evidence}); to go on, raise it")
        if (evidence := self._budget.exhausted()) is not None:
            return self._nothing_to_do(f"has no budget left ({evidence}); to go on, raise it")
        interrupts = Interrupts()
        try:
            with interrupts.caught(), ray_session(dashboard=self._study.resources.uses_ray_train):
                return self._run_on_ray(interrupts)
        except Exception as error:
            if (trouble := storage_error_in(error)) is None:
                raise
            self._say(f"study {self._study.name} is interrupted: {trouble}")
            return INTERRUPTED
        except KeyboardInterrupt:
            self._say("stopped at once; trials go on from their newest checkpoints with the same command")
            return INTERRUPTED

    def _run_on_ray(self, interrupts: Interrupts) -> int:
        resources = self._study.resources
        self._room = room_of_cluster(resources)
        self._workers = workers_of_study(self._study, self._room)
        self._planner.slots = num_slots(resources, self._workers, self._room)
        check_quota(self._study, self._planner.slots)
        self._folder.check_reach()
        self._budget.devices = self._workers.max * resources.devices_per_worker
        self._folder.freeze(self._study, self._corpus.content_hash)
        with closing(self._folder.open_log()) as log:
            self._log = log
            versions = provenance().packages
            log.append(
                AttemptStarted(pid=os.getpid(), host=socket.gethostname(), versions=versions, resumed=self._resumed)
            )
            return self._run_logged(log, interrupts)

    def _run_logged(self, log: DecisionLog, interrupts: Interrupts) -> int:
        name, namespace = f"crossover-control-{uuid.uuid4().hex}", "crossover"
        control = start_control(name, namespace, self._budget)
        quota = CheckpointQuota(self._study, self._folder.space, self._view)
        tracking = self._tracking = open_tracking(self._study, self._folder.path, self._results, self._say)
        driver = StudyDriver(
            self._planner, log.append, control, self._results, self._budget, self._view, interrupts, tracking, quota
        )
        if (lease := self._folder.lease) is not None:
            driver.check_driver = lease.check
        corpus = self._corpus.location
        context = TrialContext(
            self._study, self._folder.path, corpus, name, namespace, log.attempt, self._room, self._train
        )
        if lease is not None:
            context = replace(context, remote=RemoteLegs(lease.store.uri, lease.term))
        display = StudyDisplay(self._view, self._console)
        self._greet()
        self._view.begin_attempt()
        tracking.start(self._view.placed)
        display.start()
        try:
            _fit(driver, context, display)
        finally:
            display.stop()
            ray.kill(control)
        code = self._conclude(driver, log)
        tracking.close(self._view.placed, self._folder.path if code == DONE else None)
        return code

    def _decide(self, line: Decision) -> None:
        assert self._log is not None, "the planner decides only while an attempt runs"
        self._log.append(line)
        if isinstance(line, Suggested):
            self._view.made(line)
        elif isinstance(line, TrialClosed):
            self._view.closed(line)
            if self._tracking is not None:
                self._tracking.left(self._view.trial(line.trial_id), self._view.stratum_of(line.trial_id))
        elif isinstance(line, CohortDrawn):
            self._view.drawn(line)
        elif isinstance(line, RungDecided):
            self._view.decided(line)

    def _nothing_to_do(self, why: str) -> int:
        self._say(f"study {self._study.name} {why}: {self._folder.shown}")
        return self._exit_code()

    def _greet(self) -> None:
        verb = "goes on" if self._resumed else "starts"
        slots = self._planner.slots
        trials = f"{slots} trial{'s' * (slots != 1)} at once{_of_workers(self._workers, self._study.resources)}"
        self._say(f"study {self._study.name} {verb} in {self._folder.shown}, {trials}; Ctrl-C once interrupts it")

    def _conclude(self, driver: StudyDriver, log: DecisionLog) -> int:
        if driver.stop_reason == "interrupted" and self._planner.has_work:
            self._say(f"study {self._study.name} is interrupted; the same command goes on with it")
            return INTERRUPTED
        reason = "every trial has ended"
        if driver.stop_reason == "budget" and self._view.stopping:
            reason = self._view.stopping
        elif (evidence := self._planner.spent) is not None:
            reason = evidence
        log.append(StudyFinished(reason=reason))
        failed = sum(trial.state == "failed" for trial in self._view.trials)
        words = f"; {failed} of {len(self._view.trials)} trials failed" if failed else ""
        self._say(f"study {self._study.name} is finished ({reason}){words}: {self._folder.shown}")
        if (code := self._exit_code()) == DONE:
            self._say(f"its answer: crossover report {self._folder.shown}")
        return code

    def _exit_code(self) -> int:
        if any(trial.best is not None and trial.state != "failed" for trial in self._view.trials):
            return DONE
        self._say("no trial has a usable result; `crossover status` says why each of them ended")
        return NO_RESULT

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=not self._console.is_terminal)


def _of_workers(workers: WorkerRange, resources: ResourcesConfig) -> str:
    if workers.max == 1:
        return ""
    if workers.min == workers.max:
        return f" of {workers.max} workers"
    by_memory = "" if resources.given_workers else ", by their memory"
    return f" of {workers.min} to {workers.max} workers{by_memory}"


def _fit(driver: StudyDriver, context: TrialContext, display: StudyDisplay) -> None:
    def error_of(trial_id: str) -> str | None:
        error: str | None = ray.get(driver.control.take_error.remote(trial_id))
        return error

    loggers = [JsonLoggerCallback(), CSVLoggerCallback()]  # type: ignore[no-untyped-call]
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(make_trainable(context), leg_resources(context)),
        tune_config=ray.tune.TuneConfig(
            search_alg=TuneSearcher(driver.planner, driver, error_of),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_folder_of_leg,
        ),
        run_config=ray.tune.RunConfig(
            name=f"{context.attempt:04d}",
            storage_path=str(context.study_dir / "ray"),
            callbacks=[*loggers, Reaper(context, driver.control, driver.view.say), Ticker(driver, display)],
            verbose=0,
        ),
    )
    tuner.fit()


def _folder_of_leg(trial: Any) -> str:
    return f"{trial.config['trial_id']}-{trial.config['leg']}"
