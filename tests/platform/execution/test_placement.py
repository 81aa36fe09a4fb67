from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from crossover.platform.execution.placement import leg_resources, num_slots
from crossover.trainers.errors import CrossoverError

MakeStudy = Callable[..., Any]
NODES = [
    {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}},
    {"Alive": True, "Resources": {"CPU": 3.0}},
    {"Alive": False, "Resources": {"CPU": 64.0}},
]


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
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
            num_slots(study)
    else:
        assert num_slots(study) == slots


def test_worker_that_fits_nowhere_is_an_error_that_names_what_there_is(tiny_study: MakeStudy) -> None:
    with pytest.raises(CrossoverError, match=r"cpus_per_worker = 6.*5 CPUs and 1 GPUs"):
        num_slots(tiny_study(resources={"cpus_per_worker": 6}))


def test_leg_of_one_worker_takes_what_the_study_says(tiny_study: MakeStudy) -> None:
    assert leg_resources(tiny_study(resources={"cpus_per_worker": 2})).bundles == [{"CPU": 2.0}]
    both = leg_resources(tiny_study(resources={"cpus_per_worker": 1, "gpus_per_worker": 0.5}))
    assert both.bundles == [{"CPU": 1.0, "GPU": 0.5}]


def test_waiting_actor_of_a_leg_in_ray_train_takes_no_processor_and_stays_with_the_driver(
    tiny_study: MakeStudy,
) -> None:
    for resources in ({"workers": 2}, {"workers": 1, "launcher": "ray_train"}):
        leg = leg_resources(tiny_study(resources=resources))
        assert leg.bundles == [{"memory": 1.0}]
        assert leg._kwargs["bundle_label_selector"] == [{"ray.io/node-id": "here"}]
