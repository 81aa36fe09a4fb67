"""Marginal wall time of a trial of two workers in which nothing is trained, and where it goes.

What a search pays for each trial before any training: Crossover's leg in Ray Train, against what a user of Ray would
write instead, a `TorchTrainer` of two workers nested in a Tune function. Both make a process group of the two.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Goal, local_ray, publish

if TYPE_CHECKING:
    from crossover.trainers.config import TrialConfig
    from crossover.trainers.loop import LegEnd
    from crossover.trainers.run import Run

CROSSOVER, NESTED = "Crossover's leg", "Tune, nested TorchTrainer"
GOAL = 0.75
STUDY = {
    "name": "overhead",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8_192},
    "fixed": {"model.num_layers": 2, "model.width": 32, "schedule.epochs": 1, "objective.name": "autoregressive"},
    "axes": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"}},
    "resources": {"workers": 2},
}
PHASES = {  # moments of a leg in their order; the controller is started and has imported before it starts workers
    "given": "leg given",
    "workers": "workers' processes start",
    "begins": "loop begins",
    "ends": "loop ends",
    "over": "leg over",
}


def stamp(folder: str, name: str, **times: float) -> None:
    """One file for each moment of a trial: its name tells the trial, the moment and the time."""
    for moment, seconds in times.items():
        (Path(folder) / f"{name}@{moment}@{seconds:.6f}").touch()


def moments(folder: Path) -> dict[str, dict[str, float]]:
    """Times of every trial, by the name of the moment."""
    found: dict[str, dict[str, float]] = {}
    for path in folder.iterdir():
        name, moment, seconds = path.name.split("@")
        found.setdefault(name, {})[moment] = float(seconds)
    return found


def run_nested(folder: Path, num_trials: int) -> None:
    """Plain Tune with a `TorchTrainer` inside of the function, as Ray's documentation shows it."""
    import ray.train
    import ray.train.torch
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    stamps, storage = str(folder / "stamps"), str(folder / "train")

    def loop(config: dict[str, Any]) -> None:
        if ray.train.get_context().get_world_rank() == 0:
            stamp(stamps, str(config["learning_rate"]), begins=time.time())
        ray.train.report({"loss": 0.0})

    def trainable(config: dict[str, Any]) -> None:
        ray.train.torch.TorchTrainer(
            loop,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(
                name=tune.get_context().get_trial_id(),
                storage_path=storage,
                callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
            ),
        ).fit()

    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=num_trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), name="plain", verbose=0),
    ).fit()


def run_crossover(folder: Path, num_trials: int) -> None:
    """A study of Crossover whose training loop writes the end of its trial, and nothing before."""
    from rich.console import Console

    from crossover.platform.execution.decisions import LegEnded, LegStarted, read_decisions
    from crossover.platform.execution.launch import run_study
    from crossover.platform.study import study_of

    stamps = str(folder / "stamps")

    def train(config: TrialConfig, run: Run) -> LegEnd:
        import psutil
        import ray.train

        from crossover.trainers.durable import durable_file
        from crossover.trainers.loop import LegEnd
        from crossover.trainers.rows import TrialEnd

        begins = time.time()
        end = TrialEnd(stop_reason="completed", stop_evidence="nothing was to be trained")
        if ray.train.get_context().get_world_rank() == 0:
            durable_file(run.directory / "end.json", end.model_dump_json().encode())
            started = psutil.Process().create_time()
            stamp(stamps, run.directory.name, workers=started, begins=begins, ends=time.time())
        return LegEnd("ended", end)

    study = study_of(STUDY | {"search": {"sampler": "random", "trials": num_trials, "scheduler": "none"}}, "overhead")
    run_study(study, storage=folder, console=Console(file=io.StringIO()), train=train)
    for line in read_decisions(folder / "overhead"):
        if isinstance(line, LegStarted):
            stamp(stamps, line.trial_id, given=_seconds(line.time))
        elif isinstance(line, LegEnded):
            stamp(stamps, line.trial_id, over=_seconds(line.time))


def _seconds(time_: datetime) -> float:
    return time_.timestamp()


# What runs an arm, and the processors of its Ray: room for one trial at a time. The Tune function of the nested one
# takes a processor, as Tune gives it.
ARMS: dict[str, tuple[Callable[[Path, int], None], int]] = {CROSSOVER: (run_crossover, 2), NESTED: (run_nested, 3)}


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder with a short name: Ray's sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="cx", ignore_cleanup_errors=True) as name:
        (Path(name) / "stamps").mkdir()
        yield Path(name)


def measure(arm: str, num_trials: int) -> list[dict[str, float]]:
    """Moments of every trial of one arm after the first, in a Ray of its own; oldest first."""
    run, num_cpus = ARMS[arm]
    with work_folder() as folder, local_ray(folder / "ray", num_cpus):
        with contextlib.redirect_stdout(io.StringIO()):
            run(folder, num_trials)
        trials = sorted(moments(folder / "stamps").values(), key=lambda trial: trial["begins"])
        assert len(trials) == num_trials
        for earlier, later in itertools.pairwise(trials):
            later["whole"] = later["begins"] - earlier["begins"]
        return trials[1:]


def phase_rows(trials: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Mean seconds between one moment of a leg and the next."""
    return [
        {
            "what": f"{PHASES[before]} -> {PHASES[after]}",
            "trials": len(trials),
            "mean seconds": statistics.mean(trial[after] - trial[before] for trial in trials),
        }
        for before, after in itertools.pairwise(PHASES)
    ]


def main() -> None:
    """Measure the arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--trials", type=int, default=5, help="of an arm and repeat; the first does not count")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    measured: dict[str, list[dict[str, float]]] = {arm: [] for arm in arguments.arms}
    for _, arm in itertools.product(range(arguments.repeats), arguments.arms):
        measured[arm] += measure(arm, arguments.trials)
        print(f"{arm}: {[round(trial['whole'], 2) for trial in measured[arm]]} s a trial", flush=True)
    means = {arm: statistics.mean(trial["whole"] for trial in trials) for arm, trials in measured.items()}
    rows: list[dict[str, Any]] = [
        {"what": f"{arm}: a whole trial", "trials": len(trials), "mean seconds": means[arm]}
        for arm, trials in measured.items()
    ]
    if CROSSOVER in measured:
        rows += phase_rows(measured[CROSSOVER])
    goals = []
    if means.keys() == ARMS.keys():
        goals.append(Goal(f"{CROSSOVER} / {NESTED}", means[CROSSOVER] / means[NESTED], at_most=GOAL))
    publish("two_worker_leg", rows, goals)


if __name__ == "__main__":
    main()
