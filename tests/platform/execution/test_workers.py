"""Workers by the estimated memory, on GPUs whose memory the tests make up."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from crossover.platform.execution.launch import run_study
from crossover.platform.execution.study_workers import stratum_workers, workers_of_study
from crossover.platform.execution.workers import Room, check_state, worker_counts, workers_of
from crossover.platform.study.constraints import memory_of
from crossover.platform.study.model import ResourcesConfig, WorkerRange
from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.errors import CrossoverError

MakeStudy = Callable[..., Any]
AUTO = ResourcesConfig.model_validate({"workers": "auto", "gpus_per_worker": 1})
GB = 10**9


def config(**changes: Any) -> TrialConfig:
    """About a billion parameters."""
    values = {
        "data.corpus": "none",
        "data.unique_tokens": 10**9,
        "data.sequence_length": 2048,
        "model.num_layers": 16,
        "model.width": 2048,
        "objective.name": "autoregressive",
        "schedule.epochs": 1,
        "schedule.batch_size": 16,
        "evaluation.validation_windows": 512,
        "evaluation.test_windows": 512,
        "execution.precision": "bfloat16",
    }
    return config_from_dotted(values | {name.replace("__", "."): value for name, value in changes.items()})


def workers(trial: TrialConfig, num_gpus: int, gpu_bytes: float) -> int:
    found = workers_of(AUTO, trial, Room(num_gpus, int(gpu_bytes)))
    assert found.min == found.max
    return found.max


def test_trial_takes_the_fewest_gpus_in_which_it_fits_with_room_to_spare() -> None:
    for count in (1, 2, 4, 8):
        needed = memory_of(config(), count).total_bytes
        assert workers(config(), 16, 1.01 * needed / 0.85) == count
        assert workers(config(), 16, 0.99 * needed / 0.85) > count


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"schedule__batch_size": 12}, {1, 2, 3, 4, 6, 12}),
        ({"schedule__batch_size": 12, "execution__replicas": 2}, {2, 4, 6, 12}),
        ({"schedule__batch_size": 12, "execution__micro_batch_size": 3}, {1, 2, 4}),
        ({"schedule__batch_size": 12, "evaluation__test_windows": 4}, {1, 2, 3, 4}),
    ],
)
def test_only_numbers_that_share_the_batch_and_hold_whole_replicas_are_taken(
    changes: dict[str, Any], allowed: set[int]
) -> None:
    trial = config(**changes)
    assert set(worker_counts(WorkerRange(min=1, max=16), trial)) == allowed
    taken = set()
    for count in allowed:
        taken.add(workers(trial, 16, 1.001 * memory_of(trial, count).total_bytes / 0.85))
    assert taken <= allowed
    assert len(taken) > 1


def test_sharing_divides_the_state_over_the_workers_of_a_replica_and_the_rows_over_all() -> None:
    alone, four, in_two = memory_of(config()), memory_of(config(), 4), memory_of(config(execution__replicas=2), 4)
    assert alone.gathered_bytes == 0
    assert four.state_bytes == pytest.approx(alone.state_bytes / 4)
    assert in_two.state_bytes == pytest.approx(alone.state_bytes / 2)
    assert four.activation_bytes == in_two.activation_bytes == pytest.approx(alone.activation_bytes / 4)
    small_passes = config(execution__micro_batch_size=2)
    assert memory_of(small_passes, 4).activation_bytes == memory_of(small_passes).activation_bytes


def test_estimate_of_a_sharded_step_counts_more_than_the_shards_and_less_than_the_whole() -> None:
    for count in (2, 4, 8, 16):
        memory = memory_of(config(), count)
        assert memory.total_bytes < memory_of(config()).total_bytes
        assert memory.total_bytes > memory_of(config()).total_bytes / count


def test_trial_that_fits_nowhere_is_told_its_need_the_memory_and_the_remedy() -> None:
    with pytest.raises(CrossoverError) as refused:
        workers_of(AUTO, config(), Room(4, 8 * GB))
    need = memory_of(config(), 4).total_bytes / 1e9
    for expected in (f"{need:.3g} GB", "4 GPUs", "8 GB", "micro_batch_size", "activation_checkpointing", "add GPUs"):
        assert expected in str(refused.value)


def test_numbers_that_never_share_a_batch_are_an_error_of_their_own() -> None:
    with pytest.raises(CrossoverError, match=r"none of the 4 workers .*execution.replicas = 8.* add GPUs"):
        workers_of(AUTO, config(execution__replicas=8), Room(4, 80 * GB))


def test_auto_precision_is_estimated_as_gpus_compute() -> None:
    needed = memory_of(config(), 2).total_bytes / 0.85
    assert workers(config(execution__precision="auto"), 16, 1.01 * needed) == 2
    assert workers(config(execution__precision="float32"), 16, 1.01 * needed) > 2


def test_workers_without_gpus_are_one() -> None:
    without = ResourcesConfig.model_validate({"workers": "auto"})
    assert workers_of(without, config(), Room(64)) == WorkerRange(min=1, max=1)
    assert not without.uses_ray_train


def test_gpus_that_nobody_can_see_are_an_error() -> None:
    with pytest.raises(CrossoverError, match=r"auto, but the memory .* set the number of workers"):
        workers_of(AUTO, config(), Room(4))


def test_given_workers_are_refused_only_if_what_they_hold_all_the_time_cannot_fit() -> None:
    two = ResourcesConfig.model_validate({"workers": 2, "gpus_per_worker": 1})
    held = memory_of(config(), 2).state_bytes
    check_state(two, config(), Room(2, int(1.01 * held)))
    with pytest.raises(CrossoverError, match=r"GB a worker, .* set more resources.workers, or auto"):
        check_state(two, config(), Room(2, int(0.99 * held)))


def test_strata_of_one_study_may_need_different_numbers(tiny_study: MakeStudy) -> None:
    study = tiny_study(
        resources={"workers": "auto", "gpus_per_worker": 1},
        axes__schedule__batch_size={"choice": [16, 128], "role": "scientific"},
    )
    room = Room(8, 10**7)
    small, large = (
        {stratum_workers(study, one, room).max for one in study.strata() if one.settings["schedule.batch_size"] == size}
        for size in (16, 128)
    )
    assert small == {1}
    assert min(large) > 1
    assert workers_of_study(study, room) == WorkerRange(min=1, max=max(large))


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 32)

    def of(total_memory: int) -> None:
        properties = SimpleNamespace(total_memory=total_memory)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda gpu: properties)

    return of


def test_study_whose_largest_trial_fits_nowhere_is_refused_before_anything_is_written(
    tiny_study: MakeStudy, tmp_path: Path, eight_gpus: Callable[[int], None]
) -> None:
    eight_gpus(10**6)
    study = tiny_study(
        resources={"workers": "auto", "gpus_per_worker": 1},
        axes__schedule__batch_size={"choice": [16, 128], "role": "nuisance"},
    )
    with pytest.raises(CrossoverError, match=r"in stratum .*auto, .* GB on each of 8 GPUs"):
        run_study(study, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("gpu_bytes", "says"), [(10**7, ("1 ", "1 to ")), (None, ("auto",))])
def test_dry_run_prints_the_workers_of_each_stratum(
    gpu_bytes: int | None,
    says: tuple[str, ...],
    tiny_study: MakeStudy,
    eight_gpus: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crossover.platform.execution.dry_run.measured_flops_per_second", lambda setup: 1e9)
    if gpu_bytes is None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    else:
        eight_gpus(gpu_bytes)
    study = tiny_study(
        resources={"workers": "auto", "gpus_per_worker": 1},
        axes__model__num_layers={"choice": [1, 24], "role": "nuisance", "when": {"objective.name": "autoregressive"}},
    )
    console = Console(file=io.StringIO(), width=160)
    run_study(study, dry_run=True, console=console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {name: next(line for line in output.splitlines() if name in line) for name in ("autoreg", "masked")}
    assert "workers" in output and "resources.workers = auto: the" in output
    assert f" {says[-1]}" in lines["autoreg"]
    assert f" {says[0]}" in lines["masked"]


@pytest.mark.parametrize("workers", [2, {"min": 1, "max": 2}, {"min": 1, "max": 3}])
def test_micro_batches_larger_than_a_share_are_refused_before_the_start(tiny_study: MakeStudy, workers: Any) -> None:
    with pytest.raises(CrossoverError, match=r"workers: with 2, execution.micro_batch_size is 16, .* share of 8 .*"):
        tiny_study(resources={"workers": workers}, fixed__execution__micro_batch_size=16)
    tiny_study(resources={"workers": workers}, fixed__execution__micro_batch_size=8)


def test_auto_is_written_as_it_is_read(tiny_study: MakeStudy) -> None:
    resources = {"workers": "auto", "gpus_per_worker": 1.0}
    study = tiny_study(resources=resources)
    assert study.model_dump(mode="json")["resources"]["workers"] == "auto"
    assert type(study).model_validate(study.model_dump(mode="json")).resources == study.resources
    assert study.resources.uses_ray_train
