"""Marginal wall time of a one-worker trial in which nothing is trained.

What a search pays for each trial before any training: Crossover's leg in a reused Tune actor, against what a user of
Ray would write instead: a `TorchTrainer` nested in a Tune function, or a plain function trainable with actor reuse.
Both draw a learning rate for each trial, at random or by Optuna's TPE.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Goal, local_ray, publish

if TYPE_CHECKING:
    from crossover.trainers.config import TrialConfig
    from crossover.trainers.loop import LegEnd
    from crossover.trainers.run import Run

NUM_TRIALS = 21  # 20 after the first
NUM_NESTED_TRIALS = 4  # each takes 16 to 28 s


def stamp(folder: str) -> None:
    """One file a trial, named by the time at which its body ran."""
    (Path(folder) / f"{time.time():.6f}").touch()


def marginal_seconds(folder: Path) -> tuple[float, float]:
    """Mean and median seconds between the bodies of one trial and the next, the first trial's start-up left out."""
    times = sorted(float(path.name) for path in folder.iterdir())
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.mean(steps), statistics.median(steps)


def fit_one_at_a_time(
    trainable: Callable[[dict[str, Any]], None], folder: Path, num_trials: int, search_alg: Any = None
) -> None:
    """Plain Tune: `num_trials` trials one after another, each with one CPU, actors reused."""
    from ray import tune

    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=num_trials,
            max_concurrent_trials=1,
            reuse_actors=True,
            search_alg=search_alg,
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), name="plain", verbose=0),
    ).fit()


def run_plain_tpe(folder: Path, num_trials: int) -> None:
    """Plain Tune with a function trainable and Optuna's TPE, in memory."""
    from ray.tune.search.optuna import OptunaSearch

    run_plain(folder, num_trials, OptunaSearch())


def run_plain(folder: Path, num_trials: int, search_alg: Any = None) -> None:
    """Plain Tune with a function trainable."""
    from ray import tune

    stamps = str(folder / "stamps")

    def trainable(config: dict[str, Any]) -> None:
        stamp(stamps)
        tune.report({"loss": config["learning_rate"]})

    fit_one_at_a_time(trainable, folder, num_trials, search_alg)


def run_nested(folder: Path, num_trials: int) -> None:
    """Plain Tune with a `TorchTrainer` inside of the function, as Ray's documentation shows it."""
    import ray.train
    import ray.train.torch
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    stamps, storage = str(folder / "stamps"), str(folder / "train")

    def loop(config: dict[str, Any]) -> None:
        stamp(stamps)
        ray.train.report({"loss": 0.0})

    def trainable(config: dict[str, Any]) -> None:
        ray.train.torch.TorchTrainer(
            loop,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(
                name=tune.get_context().get_trial_id(),
                storage_path=storage,
                callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
            ),
        ).fit()

    fit_one_at_a_time(trainable, folder, num_trials)


def run_crossover_tpe(folder: Path, num_trials: int) -> None:
    """The same, with the sampler that studies use."""
    run_crossover(folder, num_trials, sampler="tpe")


def run_crossover(folder: Path, num_trials: int, sampler: str = "random") -> None:
    """A study of Crossover whose training loop writes the end of its trial, and nothing before."""
    from rich.console import Console

    from crossover.platform.execution.launch import run_study
    from crossover.platform.study import study_of

    stamps = str(folder / "stamps")

    def train(config: TrialConfig, run: Run) -> LegEnd:
        from crossover.trainers.durable import durable_file
        from crossover.trainers.loop import LegEnd
        from crossover.trainers.rows import TrialEnd

        stamp(stamps)
        end = TrialEnd(stop_reason="completed", stop_evidence="nothing was to be trained")
        durable_file(run.directory / "end.json", end.model_dump_json().encode())
        return LegEnd("ended", end)

    study = study_of({**STUDY, "search": {"sampler": sampler, "trials": num_trials}}, "overhead")
    run_study(study, storage=folder, console=Console(file=io.StringIO()), train=train)


STUDY = {
    "name": "overhead",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8_192},
    "fixed": {"model.num_layers": 2, "model.width": 32, "schedule.epochs": 1, "objective.name": "autoregressive"},
    "axes": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"}},
}

CROSSOVER, PLAIN, NESTED = "Crossover's leg", "Tune, reused function", "Tune, nested TorchTrainer"
CROSSOVER_TPE, PLAIN_TPE = f"{CROSSOVER}, TPE", f"{PLAIN}, TPE"
ARMS: dict[str, tuple[Callable[[Path, int], None], int, int]] = {  # what runs it, trials, CPUs: room for one at a time
    CROSSOVER: (run_crossover, NUM_TRIALS, 1),
    PLAIN: (run_plain, NUM_TRIALS, 1),
    CROSSOVER_TPE: (run_crossover_tpe, NUM_TRIALS, 1),
    PLAIN_TPE: (run_plain_tpe, NUM_TRIALS, 1),
    NESTED: (run_nested, NUM_NESTED_TRIALS, 2),
}


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder with a short name: Ray's sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="cx") as name:
        (Path(name) / "stamps").mkdir()
        yield Path(name)


def measure(arm: str) -> tuple[float, float]:
    """Mean and median marginal seconds of one arm, in a Ray of its own."""
    run, num_trials, num_cpus = ARMS[arm]
    with work_folder() as folder, local_ray(folder / "ray", num_cpus):
        with contextlib.redirect_stdout(io.StringIO()):
            run(folder, num_trials)
        assert len(list((folder / "stamps").iterdir())) == num_trials
        return marginal_seconds(folder / "stamps")


def main() -> None:
    """Measure every arm in turn; nested ones once, they are slow and far away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arguments.arms}
    for repeat, arm in itertools.product(range(arguments.repeats), arguments.arms):
        if repeat == 0 or arm != NESTED:
            measured[arm].append(measure(arm))
            print(f"{arm}: {measured[arm][-1][0]:.3f} s a trial", flush=True)
    means = {arm: statistics.median(mean for mean, _ in values) for arm, values in measured.items()}
    rows = [
        {
            "what": arm,
            "trials after the first": ARMS[arm][1] - 1,
            "repeats": len(values),
            "seconds a trial": means[arm],
            "median step, seconds": statistics.median(median for _, median in values),
        }
        for arm, values in measured.items()
    ]
    ratios = [(CROSSOVER, PLAIN, None, 1.3), (CROSSOVER_TPE, PLAIN_TPE, None, 1.3), (NESTED, CROSSOVER, 50, None)]
    goals = [
        Goal(f"{above} / {below}", means[above] / means[below], at_least=at_least, at_most=at_most)
        for above, below, at_least, at_most in ratios
        if {above, below} <= means.keys()
    ]
    publish("leg_overhead", rows, goals)


if __name__ == "__main__":
    main()
