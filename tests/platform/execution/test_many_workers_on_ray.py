"""Studies whose trials have two workers, on a real Ray with two processors, with the real training loop."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from rich.console import Console

from crossover.platform.execution.decisions import LegEnded, Suggested, read_decisions
from crossover.platform.execution.launch import DONE, run_study
from crossover.trainers.config import TrialConfig
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

MakeStudy = Callable[..., Any]
Rows = dict[str, list[dict[str, Any]]]
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
ONE_TRIAL = {
    "search__trials": 1,
    "axes__objective__name": {"choice": ["autoregressive"], "role": "scientific"},
    "fixed__schedule__epochs": 8,
    "fixed__checkpoint__min_interval_seconds": 0,
}
FREE_SECONDS = 30


def quietly(study: Any, storage: Path, **arguments: Any) -> str:
    output = io.StringIO()
    code = run_study(study, storage, console=Console(file=output, width=200), **arguments)
    assert code == DONE, output.getvalue()
    return output.getvalue()


def records(study_dir: Path) -> dict[str, TrialRecord]:
    made = [line.trial_id for line in read_decisions(study_dir) if isinstance(line, Suggested)]
    return {trial_id: TrialRecord(study_dir / "trials" / trial_id) for trial_id in made}


def rows(study_dir: Path, *without: str) -> Rows:
    """Rows of every trial, without what the clock and the machine say."""
    found = {trial_id: record.evaluations() for trial_id, record in records(study_dir).items()}
    return {trial_id: [row.model_dump(exclude=TIMES | set(without)) for row in r] for trial_id, r in found.items()}


def ends(study_dir: Path) -> Counter[str]:
    found = [record.end() for record in records(study_dir).values()]
    return Counter("none" if end is None else end.stop_reason for end in found)


def legs(study_dir: Path) -> list[tuple[str, str | None]]:
    return [(line.status, line.error) for line in read_decisions(study_dir) if isinstance(line, LegEnded)]


def assert_everything_is_free() -> None:
    """Soon after a study: no processor is held, and no process of a trial is left."""
    deadline = time.monotonic() + FREE_SECONDS
    while (left := _left_over()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _left_over() -> list[str]:
    held = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0)
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    return [f"{held} CPUs"] * (held > 0) + [f"{len(groups)} placement groups"] * bool(groups)


class Meddler:
    """Does something in the main worker, once, when it has reported so many evaluations.

    Args:
        run: the place where the worker really is.
        marker: a file that says that it was done; beside it the steps of all evaluations are kept.
        after: evaluations of all legs so far.
        act: what is done.
    """

    def __init__(self, run: Any, marker: Path, after: int, act: Callable[[], None]) -> None:
        self.directory, self.until_tokens, self.published = run.directory, run.until_tokens, run.published
        self.run, self.marker, self.after, self.act = run, marker, after, act

    def evaluated(self, evaluation: Evaluation) -> None:
        self.run.evaluated(evaluation)
        with self.marker.with_name("steps").open("a") as file:
            file.write(f"{evaluation.step}\n")

    def should_stop(self, progress: Progress) -> StopRequest | None:
        steps = self.marker.with_name("steps")
        if steps.exists() and len(steps.read_text().split()) >= self.after and not self.marker.exists():
            self.marker.touch()
            self.act()
        request: StopRequest | None = self.run.should_stop(progress)
        return request


@pytest.fixture(scope="module")
def undisturbed(tiny_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Rows:
    storage = tmp_path_factory.mktemp("undisturbed")
    quietly(tiny_study(resources={"workers": 2}, **ONE_TRIAL), storage)
    return rows(storage / "tiny")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert_everything_is_free()


def test_trials_of_two_workers_give_the_rows_of_one_worker(tiny_study: MakeStudy, tmp_path: Path) -> None:
    output = quietly(tiny_study(search__trials=1, resources={"workers": 2}), tmp_path / "two")
    assert "1 trial at once of 2 workers;" in output
    assert "validation" in output
    assert ends(tmp_path / "two/tiny") == {"completed": 2}
    assert legs(tmp_path / "two/tiny") == [("ended", None)] * 2
    quietly(tiny_study(search__trials=1), tmp_path / "one")
    one, two = rows(tmp_path / "one/tiny", "world_size"), rows(tmp_path / "two/tiny")
    assert {row.pop("world_size") for trial in two.values() for row in trial} == {2}
    assert list(one) == list(two)
    for trial_id, expected in one.items():
        for row, other in zip(expected, two[trial_id], strict=True):
            assert row.keys() == other.keys()
            for name, value in row.items():
                wanted = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
                assert other[name] == wanted, name


@pytest.mark.slow
@pytest.mark.parametrize(("reuse", "max_failures"), [(True, 2), (False, 0)])
def test_study_whose_trials_are_mostly_stopped_ends_by_itself(
    reuse: bool, max_failures: int, tiny_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ray.tune.TuneConfig
    monkeypatch.setattr(ray.tune, "TuneConfig", lambda **settings: real(**{**settings, "reuse_actors": reuse}))
    counted = tmp_path / "counted"
    counted.mkdir()

    def mostly_stopped(config: TrialConfig, run: Any) -> LegEnd:
        name = f"{run.trial_id}"
        if run.is_main:
            (counted / name).touch()
            if len(list(counted.iterdir())) <= 4:
                run.control.request_stop.remote(run.trial_id, "pruned", "the test says so")
        return train(config, run)

    study = tiny_study(
        search__trials=3,
        fixed__schedule__epochs=6,
        resources={"workers": 2, "max_failures": max_failures},
    )
    quietly(study, tmp_path, train=mostly_stopped)
    assert ends(tmp_path / "tiny") == {"pruned": 4, "completed": 2}
    assert legs(tmp_path / "tiny") == [("ended", None)] * 6


def siblings(title: str) -> list[psutil.Process]:
    """In a worker: other processes of its Ray whose title has this word."""
    raylet = psutil.Process(os.getppid())
    return [p for p in raylet.children() if p.pid != os.getpid() and title in " ".join(p.cmdline())]


def signal_siblings(title: str, number: signal.Signals) -> None:
    found = siblings(title)
    assert found
    for process in found:
        process.send_signal(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main_dies", "max_failures", "expected"),
    [
        (True, 2, [("ended", None)]),
        (False, 2, [("ended", None)]),
        (False, 0, [("failed", "WorkerLost: a worker died (killed, or out of memory)"), ("ended", None)]),
    ],
)
def test_worker_that_is_killed_costs_no_more_than_an_interval(
    main_dies: bool,
    max_failures: int,
    expected: list[tuple[str, str | None]],
    tiny_study: MakeStudy,
    tmp_path: Path,
    undisturbed: Rows,
) -> None:
    def killed_once(config: TrialConfig, run: Any) -> LegEnd:
        def kill() -> None:
            if main_dies:
                os.kill(os.getpid(), signal.SIGKILL)
            signal_siblings("RayTrainWorker", signal.SIGKILL)

        return train(config, Meddler(run, tmp_path / "done", 3, kill))

    study = tiny_study(resources={"workers": 2, "max_failures": max_failures}, **ONE_TRIAL)
    quietly(study, tmp_path, train=killed_once)
    assert legs(tmp_path / "tiny") == expected
    assert rows(tmp_path / "tiny") == undisturbed
    assert_steps_were_repeated_at_most_once(tmp_path)


def assert_steps_were_repeated_at_most_once(folder: Path) -> None:
    repeats = Counter((folder / "steps").read_text().split())
    assert sum(count - 1 for count in repeats.values()) <= 1, repeats


@pytest.mark.slow
def test_driver_process_of_a_trial_that_is_killed_leaves_nothing_and_its_trial_goes_on(
    tiny_study: MakeStudy, tmp_path: Path, undisturbed: Rows
) -> None:
    def tune_actor_killed_once(config: TrialConfig, run: Any) -> LegEnd:
        def kill() -> None:
            signal_siblings("ImplicitFunc", signal.SIGKILL)
            time.sleep(60)  # the workers end with it

        return train(config, Meddler(run, tmp_path / "done", 3, kill))

    study = tiny_study(resources={"workers": 2}, **ONE_TRIAL)
    quietly(study, tmp_path, train=tune_actor_killed_once)
    assert legs(tmp_path / "tiny") == [
        ("failed", "its worker died (killed, or out of memory)"),
        ("ended", None),
    ]
    assert rows(tmp_path / "tiny") == undisturbed
    assert_steps_were_repeated_at_most_once(tmp_path)


@pytest.mark.slow
def test_leg_whose_worker_hangs_is_killed_and_goes_on(tiny_study: MakeStudy, tmp_path: Path, undisturbed: Rows) -> None:
    def hangs_once(config: TrialConfig, run: Any) -> LegEnd:
        def stop_the_other() -> None:
            signal_siblings("RayTrainWorker", signal.SIGSTOP)

        return train(config, Meddler(run, tmp_path / "done", 3, stop_the_other))

    study = tiny_study(resources={"workers": 2, "hang_seconds": 25}, **ONE_TRIAL)
    output = quietly(study, tmp_path, train=hangs_once)
    (failed, error), second = legs(tmp_path / "tiny")
    assert (failed, second) == ("failed", ("ended", None))
    assert "said nothing for resources.hang_seconds = 25" in str(error)
    assert "killing a leg of" in output
    assert rows(tmp_path / "tiny") == undisturbed
    assert_steps_were_repeated_at_most_once(tmp_path)


@pytest.mark.slow
def test_error_in_one_worker_is_said_in_its_own_words(tiny_study: MakeStudy, tmp_path: Path) -> None:
    def breaks_once(config: TrialConfig, run: Any) -> LegEnd:
        def break_down() -> None:
            raise ValueError("this worker is broken")

        return train(config, Meddler(run, tmp_path / "done", 2, break_down))

    study = tiny_study(resources={"workers": 2, "max_failures": 0}, **ONE_TRIAL)
    quietly(study, tmp_path, train=breaks_once)
    assert legs(tmp_path / "tiny") == [("failed", "ValueError: this worker is broken"), ("ended", None)]


@pytest.mark.slow
def test_one_worker_can_run_in_ray_train_too(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(resources={"workers": 1, "launcher": "ray_train", "cpus_per_worker": 2}, **ONE_TRIAL)
    quietly(study, tmp_path / "a")
    quietly(tiny_study(resources={"cpus_per_worker": 2}, **ONE_TRIAL), tmp_path / "b")
    assert rows(tmp_path / "a/tiny") == rows(tmp_path / "b/tiny")


class CannotBeSent(Exception):  # noqa: N818 - what it stands for has such names
    """Pickles, and cannot be made again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


@pytest.mark.slow
def test_error_that_cannot_be_sent_fails_its_own_leg_alone(tiny_study: MakeStudy, tmp_path: Path) -> None:
    def breaks_once(config: TrialConfig, run: Any) -> LegEnd:
        def break_down() -> None:
            raise CannotBeSent(1, 2)

        return train(config, Meddler(run, tmp_path / "done", 2, break_down))

    quietly(tiny_study(resources={"cpus_per_worker": 2}, **ONE_TRIAL), tmp_path, train=breaks_once)
    assert legs(tmp_path / "tiny") == [("failed", "CannotBeSent: 1 and 2"), ("ended", None)]
