from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune import PlacementGroupFactory

from crossover.platform.execution.leg import TrialContext
from crossover.platform.execution.placement import leg_resources, num_slots, room_of_cluster
from crossover.platform.execution.study_workers import workers_of_study
from crossover.platform.execution.workers import Room
from crossover.trainers.errors import CrossoverError

MakeStudy = Callable[..., Any]
NODES = [
    {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}},
    {"Alive": True, "Resources": {"CPU": 3.0}},
    {"Alive": False, "Resources": {"CPU": 64.0}},
]


GPU_BYTES = 80 * 10**9


def slots_of(study: Any) -> int:
    room = room_of_cluster(study.resources)
    return num_slots(study.resources, workers_of_study(study, room), room)


def leg_of(study: Any, room: Room = Room(8), **settings: Any) -> PlacementGroupFactory:  # noqa: B008 - it is frozen
    stratum = study.strata()[0]
    leg = {"scientific": dict(stratum.settings), "stratum": stratum.label, "settings": settings, "repeat": 0}
    return leg_resources(TrialContext(study, Path("study"), "corpus", "control", "crossover", 1, room))(leg)


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossover.platform.execution.placement.gpu_bytes_of_cluster", lambda: GPU_BYTES)
    monkeypatch.setattr(ray, "nodes", lambda: NODES)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ({"cpus_per_worker": 1}, 8),
        ({"cpus_per_worker": 2}, 3),
        ({"cpus_per_worker": 4}, 1),
        ({"cpus_per_worker": 1, "gpus_per_worker": 0.5}, 2),
        ({"cpus_per_worker": 3, "gpus_per_worker": 0.25}, 1),
        ({"workers": 2}, 4),
        ({"workers": 4, "cpus_per_worker": 2}, None),
        ({"workers": 2, "cpus_per_worker": 2}, 1),
        ({"workers": 8}, 1),
        ({"workers": {"min": 2, "max": 4}}, 2),
        ({"workers": {"min": 2, "max": 16}}, 1),
        ({"workers": 1, "launcher": "ray_train", "cpus_per_worker": 2}, 3),
    ],
)
def test_slots_are_counted_in_workers_that_find_room_node_by_node(
    tiny_study: MakeStudy, resources: dict[str, float], slots: int | None
) -> None:
    study = tiny_study(resources=resources)
    if slots is None:
        with pytest.raises(CrossoverError, match=r"resources.workers = 4, but all machines .* room for 3 workers"):
            slots_of(study)
    else:
        assert slots_of(study) == slots


def test_worker_that_fits_nowhere_is_an_error_that_names_what_there_is(tiny_study: MakeStudy) -> None:
    with pytest.raises(CrossoverError, match=r"cpus_per_worker = 6.*5 CPUs and 1 GPUs"):
        slots_of(tiny_study(resources={"cpus_per_worker": 6}))


def test_leg_of_one_worker_takes_what_the_study_says(tiny_study: MakeStudy) -> None:
    assert leg_of(tiny_study(resources={"cpus_per_worker": 2})).bundles == [{"CPU": 2.0}]
    both = leg_of(tiny_study(resources={"cpus_per_worker": 1, "gpus_per_worker": 0.5}))
    assert both.bundles == [{"CPU": 1.0, "GPU": 0.5}]


def test_waiting_actor_of_a_leg_in_ray_train_takes_no_processor_and_stays_with_the_driver(
    tiny_study: MakeStudy,
) -> None:
    for resources in ({"workers": 2}, {"workers": 1, "launcher": "ray_train"}):
        leg = leg_of(tiny_study(resources=resources))
        assert leg.bundles == [{"memory": 1.0}]
        assert leg._kwargs["bundle_label_selector"] == [{"ray.io/node-id": "here"}]


def test_legs_of_one_study_take_what_each_of_them_needs(tiny_study: MakeStudy) -> None:
    study = tiny_study(
        resources={"workers": "auto", "gpus_per_worker": 1},
        axes__schedule__batch_size={"choice": [16, 128], "role": "nuisance"},
        axes__objective__name={"choice": ["autoregressive"], "role": "scientific"},
    )
    room = Room(8, gpu_bytes=10 * 10**6)
    assert leg_of(study, room, **{"schedule.batch_size": 16}).bundles == [{"CPU": 1.0, "GPU": 1.0}]
    assert leg_of(study, room, **{"schedule.batch_size": 128}).bundles == [{"memory": 1.0}]


def test_slots_have_room_for_the_largest_trial_of_each_study(
    tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 32.0, "GPU": 8.0}}] * 2)
    monkeypatch.setattr("crossover.platform.execution.placement.gpu_bytes_of_cluster", lambda: 10 * 10**6)
    auto = {"workers": "auto", "gpus_per_worker": 1}
    small = tiny_study(resources=auto)
    mixed = tiny_study(resources=auto, axes__schedule__batch_size={"choice": [16, 128], "role": "nuisance"})
    workers = workers_of_study(mixed, Room(16, 10 * 10**6))
    assert workers.min == 1 < workers.max
    assert slots_of(small) == 16
    assert slots_of(mixed) == 16 // workers.max


def test_trial_that_was_not_foreseen_and_fits_nowhere_takes_one_worker_to_fail_alone(tiny_study: MakeStudy) -> None:
    study = tiny_study(resources={"workers": "auto", "gpus_per_worker": 1})
    assert leg_of(study, Room(8, gpu_bytes=10**5)).bundles == [{"CPU": 1.0, "GPU": 1.0}]
