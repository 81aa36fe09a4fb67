"""Marginal wall time of a one-worker trial in which nothing is trained.

What a search pays for each trial before any training: Crossover's leg in a reused Tune actor, against what a user of
Ray would write instead: a `TorchTrainer` nested in a Tune function, or a plain function trainable with actor reuse.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import local_ray, publish

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


def fit_one_at_a_time(trainable: Callable[[dict[str, Any]], None], folder: Path, num_trials: int) -> None:
    """Plain Tune: `num_trials` trials one after another, each with one CPU, actors reused."""
    from ray import tune

    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(num_samples=num_trials, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), name="plain", verbose=0),
    ).fit()


def run_plain(folder: Path, num_trials: int) -> None:
    """Plain Tune with a function trainable."""
    from ray import tune

    stamps = str(folder / "stamps")

    def trainable(config: dict[str, Any]) -> None:
        stamp(stamps)
        tune.report({"loss": 0.0})

    fit_one_at_a_time(trainable, folder, num_trials)


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
                name=tune.get_context().get_trial_id(), storage_path=storage, callbacks=[TuneReportCallback()]
            ),
        ).fit()

    fit_one_at_a_time(trainable, folder, num_trials)


ARMS: dict[str, tuple[Callable[[Path, int], None], int]] = {
    "Tune, reused function": (run_plain, NUM_TRIALS),
    "Tune, nested TorchTrainer": (run_nested, NUM_NESTED_TRIALS),
}


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder with a short name: Ray's sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="cx") as name:
        (Path(name) / "stamps").mkdir()
        yield Path(name)


def measure(arm: str) -> tuple[float, float]:
    """Mean and median marginal seconds of one arm, in a Ray of its own."""
    run, num_trials = ARMS[arm]
    with work_folder() as folder, local_ray(folder / "ray", num_cpus=2):
        run(folder, num_trials)
        return marginal_seconds(folder / "stamps")


def main() -> None:
    """Measure every arm in turn; nested ones once, they are slow and far away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arguments.arms}
    for repeat, arm in itertools.product(range(arguments.repeats), arguments.arms):
        if repeat == 0 or "nested" not in arm:
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
    publish("leg_overhead", rows, [])


if __name__ == "__main__":
    main()
