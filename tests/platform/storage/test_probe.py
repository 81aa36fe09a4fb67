"""Machines that do not reach the storage, each a raylet of its own on this machine; and the places that are asked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from s3_server import Store

from crossover.platform.storage import probe
from crossover.platform.storage.probe import FolderProbe, StoreProbe, check_reach
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore


@pytest.fixture
def places(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    store.open()
    monkeypatch.setattr(probe, "_SIGHT_SECONDS", 0.1)
    return [FolderProbe.of(tmp_path), StoreProbe.of(ObjectStore(store.uri("bucket/probe")))]


def test_what_one_writes_the_other_reads_until_it_is_removed(places: list[Any]) -> None:
    for place in places:
        assert place.read("driver") is None
        place.write("driver", b"driver")
        assert probe._try(place, "node") is None
        assert place.read("node")
        place.remove()
        assert place.read("driver") is None


def test_what_a_machine_does_not_see_is_its_reason(places: list[Any]) -> None:
    for place in places:
        assert probe._try(place, "node") == "it does not see what the driver wrote there"


@pytest.mark.ray
@pytest.mark.slow
def test_machines_that_are_refused_are_named_before_the_first_trial(store: Store, tmp_path: Path) -> None:
    """One of two workers has no credentials, and the store refuses who has none."""
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        pytest.skip("needs a Ray of its own, and this process is connected to one")
    store.gate = lambda number, environ: None if "HTTP_AUTHORIZATION" in environ else "denied"
    with tempfile.TemporaryDirectory(prefix="cx-ray", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
        )
        try:
            cluster.add_node(num_cpus=1)
            nowhere = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
            refused = cluster.add_node(num_cpus=1, env_vars=nowhere)
            ray.init(address=cluster.address, log_to_driver=False, logging_level=50)
            place = StoreProbe.of(ObjectStore(store.uri("bucket/study")))
            assert [node for node, _ in probe.unreached(place, [n["NodeID"] for n in ray.nodes()])] == [refused.node_id]
            with pytest.raises(CrossoverError, match="storage that not all nodes reach: s3://bucket/study") as raised:
                check_reach(place, "s3://bucket/study")
            assert "is not reached by 1 of 3 machines" in str(raised.value) and "ACCESS_DENIED" in str(raised.value)
            check_reach(FolderProbe.of(tmp_path), str(tmp_path))
            assert not list(tmp_path.glob(".tmp-*")) and not ObjectStore(store.uri("bucket/study")).list()
        finally:
            ray.shutdown()
            cluster.shutdown()
