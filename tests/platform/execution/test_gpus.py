"""The memory of GPUs, asked of this machine and of the machines of a real Ray that has none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray

from crossover.platform.execution.gpus import gpu_bytes_here, gpu_bytes_of_cluster
from crossover.trainers.errors import CrossoverError


def test_smallest_gpu_of_a_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    memories = [80, 40, 80]
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(memories))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda gpu: SimpleNamespace(total_memory=memories[gpu]))
    assert gpu_bytes_here() == 40
    memories.clear()
    assert gpu_bytes_here() is None


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_machine_whose_gpus_only_ray_sees_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_bytes_of_cluster() is None
    (node,) = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    monkeypatch.setattr(ray, "nodes", lambda: [{**node, "Resources": {"CPU": 2.0, "GPU": 1.0}}])
    if gpu_bytes_here() is not None:
        assert gpu_bytes_of_cluster() == gpu_bytes_here()
        return
    with pytest.raises(
        CrossoverError, match=rf"Ray counts GPUs on {node['NodeManagerHostname']}, where torch sees none"
    ):
        gpu_bytes_of_cluster()
