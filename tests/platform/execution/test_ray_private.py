"""Each private name of Ray that is used, without a cluster: a new Ray that moves one fails here first."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.data
import ray.train
import ray.train.constants
from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator
from ray.train.torch import TorchTrainer
from ray.train.torch import config as torch_config
from ray.train.v2._internal import constants
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution import context as train_context
from ray.train.v2._internal.execution.preemption import PreemptionContext
from ray.train.v2._internal.execution.scaling_policy import create_scaling_policy, scaling_policy
from ray.train.v2._internal.execution.worker_group import worker_group
from ray.tune.experiment import Trial

from crossover.platform.execution import ray_private
from crossover.platform.execution.ray_private import (
    ELASTIC_SETTINGS,
    SHUTDOWN_SETTINGS,
    TRAIN_SETTINGS,
    LegTrainer,
    claim_of,
    end_dataset,
    is_preempted,
    name_placement_groups,
    take_back_claim,
)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Any]:
    scaling: Any = ray.train.ScalingConfig
    config: Any = ray.train.RunConfig
    yield LegTrainer(
        lambda: None,
        sizes=[1, 2, 4],
        scaling_config=scaling(num_workers=(1, 4)),
        run_config=config(name="a", storage_path=str(tmp_path)),
    )


def test_variables_are_ones_that_ray_reads() -> None:
    known: set[object] = set()
    for module in (constants, ray.train.constants, torch_config):
        known |= {value for value in vars(module).values() if isinstance(value, str)}
    assert {*TRAIN_SETTINGS, *ELASTIC_SETTINGS, *SHUTDOWN_SETTINGS, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"} <= known


def test_placement_groups_of_ray_train_get_names_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(ray_private, "placement_group", lambda **settings: made.append(settings))
    monkeypatch.setattr(worker_group, "placement_group", worker_group.placement_group)
    monkeypatch.setattr(worker_group, "DefaultPlacementGroupHandle", lambda group: group)
    name_placement_groups("control/trial/1/")
    context = SimpleNamespace(
        resources_per_worker={"CPU": 1}, num_workers=2, placement_strategy="PACK", label_selector=None
    )
    for _ in range(2):
        worker_group.WorkerGroup._create_placement_group(None, SimpleNamespace(use_tpu=False), context)  # type: ignore[arg-type]
    assert [group["name"] for group in made] == ["control/trial/1/0", "control/trial/1/1"]
    assert made[0]["bundles"] == [{"CPU": 1}] * 2


def test_no_actor_for_data_sets_is_started(trainer: Any) -> None:
    usual = TorchTrainer._create_default_callbacks(trainer)  # type: ignore[attr-defined]
    assert any(isinstance(callback, DatasetsCallback) for callback in usual)
    ours = trainer._create_default_callbacks()
    assert [type(c) for c in ours] == [type(c) for c in usual if not isinstance(c, DatasetsCallback)]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("cpus", "workers"), [(0.0, 0), (1.0, 1), (3.0, 2), (4.0, 4), (9.0, 4)])
def test_elastic_run_takes_only_sizes_that_share_a_batch(
    cpus: float, workers: int, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def keep(self: Any, **arguments: Any) -> Any:
        given.update(arguments)
        return SimpleNamespace(error=None)

    monkeypatch.setattr(TorchTrainer, "_initialize_and_run_controller", keep)
    trainer.fit()
    assert given["scaling_policy"]._count_possible_workers({"node": {"CPU": cpus}}) == workers


def test_claim_of_a_run_has_the_name_under_which_ray_holds_it(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    monkeypatch.setattr(
        scaling_policy, "TrainAutoscalingCoordinatorClient", lambda name: named.append(name) or Client()
    )
    policy = create_scaling_policy(trainer.scaling_config)
    policy.after_controller_start(trainer.train_run_context)
    assert named == [claim_of(trainer.train_run_context)]


def test_claim_is_taken_back_from_who_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    actor = SimpleNamespace(cancel_request=SimpleNamespace(remote=lambda **what: asked.append(what)))
    monkeypatch.setattr(ray, "get_actor", lambda *name: asked.append(name) or actor)
    take_back_claim("train-1")
    assert asked == [("AutoscalingCoordinator",) * 2, {"requester_id": "train-1"}]
    source = inspect.getsource(default_autoscaling_coordinator.get_or_create_autoscaling_coordinator)
    assert source.count('="AutoscalingCoordinator"') == 2  # name and namespace
    method = default_autoscaling_coordinator._AutoscalingCoordinatorActor.cancel_request
    assert "requester_id" in inspect.signature(method).parameters


def test_a_dataset_has_what_ends_it_and_that_ends_all_of_it() -> None:
    source = inspect.getsource(ray.data.Dataset._synchronize_progress_bar)  # type: ignore[attr-defined]
    assert "self._current_executor.shutdown(force=True)" in source
    ended: list[bool] = []
    executor = SimpleNamespace(shutdown=lambda force: ended.append(force))
    dataset = SimpleNamespace(_current_executor=executor)
    dataset._synchronize_progress_bar = partial(ray.data.Dataset._synchronize_progress_bar, dataset)
    end_dataset(dataset)
    end_dataset(dataset)
    assert ended == [True]


class Client:
    def send_resource_request(self, *what: Any) -> None:
        """Nobody is asked."""


@pytest.mark.parametrize("info", [None, object()])
def test_worker_knows_that_its_machine_is_to_be_taken_away(info: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(preemption_context=PreemptionContext(info))
    assert "preemption_context" in train_context.TrainContext.__annotations__
    monkeypatch.setattr(ray_private, "get_train_context", lambda: context)
    assert is_preempted() == (info is not None)


def test_trial_of_tune_knows_its_actor() -> None:
    trial = Trial("a trainable", stub=True)
    assert trial.temporary_state.ray_actor is None
