"""`--dry-run`: what would run, and what it would cost if nothing stopped it early.

FLOPs are counted from the configurations that would be suggested first. Time is FLOPs over the speed of real training
steps, timed here for each distinct model and objective for about a second: what a trial reaches alone on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossover.platform.execution.display import duration
from crossover.platform.execution.dry_run_limits import limit_remarks, record_bytes
from crossover.platform.execution.gpus import gpu_bytes_here
from crossover.platform.execution.preflight import room_here
from crossover.platform.execution.study_workers import stratum_workers
from crossover.platform.search.study_plan import first_settings
from crossover.platform.search.warm_start import warm_start_of
from crossover.platform.study import Study
from crossover.platform.study.model import WorkerRange
from crossover.search_spaces import Stratum
from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Corpus, MixedCorpus
from crossover.trainers.step import train_step
from crossover.trainers.training_state import new_state
from crossover.trainers.trial_setup import TrialSetup, open_setup

__all__ = ["StratumCost", "TrialCost", "print_plan", "stratum_costs", "trial_cost"]

_SAMPLED = 6  # configurations of a stratum whose mean cost stands for all
_TIMED_SECONDS = 1.0
_UNTIMED_STEPS = 2
_FILE_WIDTH = 180
_EVALUATION_SHARE = 0.15  # of a trial's FLOPs: what is spent on looking is not spent on training


@dataclass(frozen=True)
class TrialCost:
    """What one trial would cost, run to its last epoch; `record_bytes` are those of its rows, checkpoints aside."""

    train_flops: float
    validation_flops: float
    test_flops: float
    seconds: float
    record_bytes: float

    @property
    def eval_flops(self) -> float:
        """Of all evaluations and of the test."""
        return self.validation_flops + self.test_flops

    @property
    def flops(self) -> float:
        """Of training and evaluation, which the budget counts."""
        return self.train_flops + self.eval_flops


@dataclass(frozen=True)
class StratumCost:
    """What one stratum would cost.

    Args:
        validation_share: FLOPs of evaluations over all of a trial's; `test_share` those of the test.
        workers: of its trials; None: they depend on the memory of GPUs that are not here.
    """

    label: str
    num_configurations: int
    num_trials: int
    num_parameters: tuple[int, int]
    flops: float
    seconds: float
    validation_share: float
    test_share: float
    record_bytes: float
    workers: WorkerRange | None = None

    @property
    def evaluation_share(self) -> float:
        """FLOPs of evaluations and test over all of a trial's, run to its last epoch."""
        return self.validation_share + self.test_share


def print_plan(study: Study, corpus: Corpus | MixedCorpus, console: Console) -> None:
    """Prints strata, trials, FLOPs and time, and starts nothing."""
    costs = stratum_costs(study)
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(_table(study.name, costs))
    for line in (*_dear_evaluation(costs), *_remarks(study, corpus, costs)):
        console.print(line, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _table(name: str, costs: Sequence[StratumCost]) -> Table:
    """Labels are folded where there is little room, numbers never."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"study {name}", overflow="fold")
    for heading in ("configs", "trials", "size", "workers", "FLOPs", "evaluation", "one worker"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cost in costs:
        low, high = (_count(number) for number in cost.num_parameters)
        size = low if low == high else f"{low} to {high}"
        counts = (str(cost.num_configurations), str(cost.num_trials))
        spent = (f"{cost.flops:.2e}", f"{cost.evaluation_share:.0%}", duration(cost.seconds))
        table.add_row(Text(cost.label), *counts, size, _range(cost.workers), *spent)
    trials, flops = sum(cost.num_trials for cost in costs), sum(cost.flops for cost in costs)
    share = sum(cost.flops * cost.evaluation_share for cost in costs) / flops
    seconds = duration(sum(cost.seconds for cost in costs))
    table.add_row("all", "", str(trials), "", "", f"{flops:.2e}", f"{share:.0%}", seconds)
    return table


def _dear_evaluation(costs: Sequence[StratumCost]) -> list[str]:
    """A warning where too much is spent on looking, with what of it can be had for less."""
    dearest = max(costs, key=lambda cost: cost.evaluation_share)
    if dearest.evaluation_share <= _EVALUATION_SHARE:
        return []
    num = sum(cost.evaluation_share > _EVALUATION_SHARE for cost in costs)
    return [
        f"Evaluation costs more than {_EVALUATION_SHARE:.0%} of a trial in {num} of {len(costs)} strata, most in "
        f"{dearest.label}: {dearest.validation_share:.1%} for validation, {dearest.test_share:.1%} for test. Train for "
        "longer, evaluate less often (evaluation.ratio, evaluation.first_epoch), or score less "
        "(evaluation.validation_windows, evaluation.test_windows and the masks of each: four times fewer double an "
        "error)."
    ]


def _range(workers: WorkerRange | None) -> str:
    if workers is None:
        return "auto"
    return str(workers.max) if workers.min == workers.max else f"{workers.min} to {workers.max}"


def _count(number: float) -> str:
    """467k, 5.01M."""
    for unit in ("", "k", "M", "B"):
        if number < 999.5 or unit == "B":
            return f"{number:.3g}{unit}"
        number /= 1000
    raise AssertionError("the last unit takes every number")


def _remarks(study: Study, corpus: Corpus | MixedCorpus, costs: Sequence[StratumCost]) -> list[str]:
    return [
        f"corpus {corpus.name}: {corpus.num_training_tokens():,} training tokens, separators counted",
        *_missing_windows(study),
        *_warm_start(study, corpus),
        *_auto_workers(study),
        "Upper bounds: every trial to its last epoch; the detector usually ends many before.",
        "Time: from real training steps timed now, one worker alone; several at once divide it.",
        *limit_remarks(
            study,
            flops=sum(cost.flops for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
            num_trials=sum(cost.num_trials for cost in costs),
            record_bytes=sum(cost.record_bytes for cost in costs),
        ),
        "Nothing was started.",
    ]


def _warm_start(study: Study, corpus: Corpus | MixedCorpus) -> list[str]:
    warm_start = warm_start_of(study, corpus.content_hash)
    return [] if warm_start is None else [f"{warm_start}."]


def _auto_workers(study: Study) -> list[str]:
    if study.resources.given_workers is not None:
        return []
    memory = gpu_bytes_here()
    if memory is None:
        return ["resources.workers = auto: the memory of the cluster's GPUs decides, and this machine has none."]
    return [f"resources.workers = auto: the fewest GPUs of {memory / 1e9:.3g} GB, as here, in which a trial fits."]


def _missing_windows(study: Study) -> list[str]:
    """What is asked for and not there; trials of one study are scored alike, so one stratum says it."""
    stratum = study.strata()[0]
    setup = open_setup(study.trial_config(stratum, first_settings(study, stratum)))
    evaluation = setup.config.evaluation
    wanted = (
        ("validation", setup.validation.num, evaluation.validation_windows),
        ("test", setup.test.num, evaluation.test_windows),
    )
    return [
        f"evaluation.{split}_windows = {asked:,}, and the corpus has {there:,}: all of them are used."
        for split, there, asked in wanted
        if there < asked
    ]


def stratum_costs(study: Study) -> list[StratumCost]:
    """What each stratum would cost. Times real steps, so it takes about a second for each distinct shape."""
    return _Estimate(study).costs()


def _workers(study: Study, stratum: Stratum) -> WorkerRange | None:
    room = room_here(study.resources)
    if study.resources.given_workers is None and room.gpu_bytes is None:
        return None
    return stratum_workers(study, stratum, room)


def trial_cost(setup: TrialSetup, flops_per_second: float) -> TrialCost:
    """What one trial would cost, run to its last epoch.

    Args:
        setup: of the trial.
        flops_per_second: of training; evaluation is taken to be as fast.
    """
    sequences = setup.num_steps * setup.config.schedule.batch_size
    tokens = sequences / setup.subset.num_sequences * setup.subset.unique_tokens
    train_flops = tokens * setup.train_flops_per_token
    validation, test = len(setup.evaluation_steps) * setup.validation_flops, setup.test_flops
    seconds = (train_flops + validation + test) / flops_per_second
    return TrialCost(train_flops, validation, test, seconds, record_bytes(setup))


class _Estimate:
    def __init__(self, study: Study) -> None:
        self._study = study
        self._speeds: dict[tuple[object, ...], float] = {}

    def costs(self) -> list[StratumCost]:
        search, found = self._study.search, []
        for stratum in self._study.strata():
            number = self._study.num_configurations(stratum)
            trials = number * search.repeats + search.num_final_repeats - search.repeats
            setups = [
                open_setup(self._with_threads(self._study.trial_config(stratum, settings)))
                for settings in (first_settings(self._study, stratum, i) for i in range(min(number, _SAMPLED)))
            ]
            cost = self._cost(stratum.label, number, trials, setups)
            found.append(replace(cost, workers=_workers(self._study, stratum)))
        return found

    def _cost(self, label: str, number: int, trials: int, setups: Sequence[TrialSetup]) -> StratumCost:
        costs = [trial_cost(setup, self._speed(setup)) for setup in setups]
        sizes = [setup.shape.num_params_active for setup in setups]
        flops = fmean(cost.flops for cost in costs)
        return StratumCost(
            label=label,
            num_configurations=number,
            num_trials=trials,
            num_parameters=(min(sizes), max(sizes)),
            flops=trials * flops,
            seconds=trials * fmean(cost.seconds for cost in costs),
            validation_share=fmean(cost.validation_flops for cost in costs) / flops,
            test_share=fmean(cost.test_flops for cost in costs) / flops,
            record_bytes=trials * fmean(cost.record_bytes for cost in costs),
        )

    def _with_threads(self, config: TrialConfig) -> TrialConfig:
        threads = config.execution.threads or self._study.resources.cpus_per_worker
        return config.model_copy(update={"execution": config.execution.model_copy(update={"threads": threads})})

    def _speed(self, setup: TrialSetup) -> float:
        config = setup.config
        key = (setup.shape, config.objective.name, config.optimizer.name, config.schedule.batch_size)
        if key not in self._speeds:
            self._speeds[key] = measured_flops_per_second(setup)
        return self._speeds[key]


def measured_flops_per_second(setup: TrialSetup, seconds: float = _TIMED_SECONDS) -> float:
    """Training FLOPs a second of real steps on this machine, timed for so many seconds after two steps that warm up."""
    setup.runtime.activate()
    state = new_state(setup)
    for _ in range(_UNTIMED_STEPS):
        train_step(setup, state)
    tokens, begin = state.tokens_seen, time.perf_counter()
    while True:
        train_step(setup, state)
        if setup.runtime.device.type == "cuda":
            _ = state.nats.item()  # waits for the device
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return (state.tokens_seen - tokens) * setup.train_flops_per_token / elapsed
