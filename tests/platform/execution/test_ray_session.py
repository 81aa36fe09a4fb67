from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import ray

from crossover.platform.execution.ray_session import leg_resources, num_slots, ray_session
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


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ({"cpus_per_worker": 1}, 8),
        ({"cpus_per_worker": 2}, 3),
        ({"cpus_per_worker": 4}, 1),
        ({"cpus_per_worker": 1, "gpus_per_worker": 0.5}, 2),
        ({"cpus_per_worker": 3, "gpus_per_worker": 0.25}, 1),
    ],
)
def test_slots_are_counted_node_by_node(tiny_study: MakeStudy, resources: dict[str, float], slots: int) -> None:
    assert num_slots(tiny_study(resources=resources)) == slots


def test_worker_that_fits_nowhere_is_an_error_that_names_what_there_is(tiny_study: MakeStudy) -> None:
    with pytest.raises(CrossoverError, match=r"cpus_per_worker = 6.*5 CPUs and 1 GPUs"):
        num_slots(tiny_study(resources={"cpus_per_worker": 6}))


def test_leg_takes_what_the_study_says(tiny_study: MakeStudy) -> None:
    assert leg_resources(tiny_study(resources={"cpus_per_worker": 2})).bundles == [{"CPU": 2.0}]
    both = leg_resources(tiny_study(resources={"cpus_per_worker": 1, "gpus_per_worker": 0.5}))
    assert both.bundles == [{"CPU": 1.0, "GPU": 0.5}]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_cluster_that_does_not_answer_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(CrossoverError, match=f"no Ray answers at RAY_ADDRESS = {address}"), ray_session():
        pass


@pytest.mark.ray
def test_session_that_is_there_is_used_and_left(ray_session_of_tests: None) -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("TUNE_")}
    with ray_session():
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert ray.is_initialized()
    assert {name: value for name, value in os.environ.items() if name.startswith("TUNE_")} == before


@pytest.fixture
def ray_session_of_tests(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("ray_session")
