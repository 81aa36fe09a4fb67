"""One driver a study in a store: named, waited for while it lives, succeeded when it is dead, and told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from s3_server import Store

from crossover.platform.storage import lease as leases
from crossover.platform.storage.lease import Holder, StudyLease, WriterCheck, holder_of
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore, StorageError

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    store.open()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(leases, "_WATCH_SECONDS", 0.1)
    monkeypatch.setattr(leases, "_SETTLE_SECONDS", 0.1)
    return ObjectStore(store.uri(f"bucket/{request.node.name}"))


def put(folder: ObjectStore, **changes: object) -> Holder:
    values = {"pid": 7, "host": "elsewhere", "copy_at": "/a", "term": 3, "renewed": 5} | changes
    holder = Holder.model_validate(values)
    folder.put("LOCK", holder.model_dump_json().encode())
    return holder


def test_it_is_renewed_while_it_is_held_and_given_back(folder: ObjectStore) -> None:
    with StudyLease(folder, "/here") as lease:
        first = holder_of(folder)
        assert first is not None and (lease.term, first.term, first.is_over) == (1, 1, False)
        time.sleep(1.0)
        now = holder_of(folder)
        assert now is not None and now.renewed > first.renewed
    now = holder_of(folder)
    assert now is not None and now.is_over
    with StudyLease(folder, "/there") as lease:
        assert lease.term == 2


def test_a_driver_that_lives_is_named_and_left_alone(folder: ObjectStore) -> None:
    with StudyLease(folder, "/here"), pytest.raises(CrossoverError, match="is being run by process"):
        StudyLease(folder, "/there").__enter__()
    assert holder_of(folder) is not None


def test_one_that_renews_no_more_is_succeeded(folder: ObjectStore) -> None:
    put(folder)
    begun = time.monotonic()
    with StudyLease(folder, "/here") as lease:
        assert lease.term == 4
        assert time.monotonic() - begun > leases.LEASE_SECONDS


def test_one_of_this_copy_is_dead_for_its_kernel_lock_is_ours(
    folder: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1e9)
    with StudyLease(folder, "/here") as first:
        first._released.set()  # killed: it renews no more, and has not said that it ended
        with StudyLease(folder, "/here") as lease:
            assert lease.term == 2
        assert first.term == 1


def test_a_driver_that_was_cut_off_learns_that_it_was_succeeded(folder: ObjectStore) -> None:
    with StudyLease(folder, "/here") as lease:
        lease.check()
        WriterCheck(folder, lease.term)()
        successor = put(folder, term=2)
        deadline = time.monotonic() + 20
        while lease._lost is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(StorageError, match="process 7 on elsewhere now, which has taken over"):
            lease.check()
        with pytest.raises(StorageError, match="process 7 on elsewhere now: what was left"):
            WriterCheck(folder, lease.term)()
        WriterCheck(folder, successor.term)()
    assert holder_of(folder) == successor, "the lease of the other is not touched"


def test_two_that_take_it_at_once_are_not_both_given_it(folder: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases.time, "sleep", lambda seconds: put(folder, term=1, pid=8))
    with pytest.raises(StorageError, match="process 8 on elsewhere"):
        StudyLease(folder, "/here").__enter__()


def test_an_unreadable_lease_is_none(folder: ObjectStore) -> None:
    folder.put("LOCK", b"nothing")
    assert holder_of(folder) is None
