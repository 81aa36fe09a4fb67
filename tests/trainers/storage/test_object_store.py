"""The client of object stores against a real S3-protocol server that throttles, refuses and goes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from s3_server import Store

from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import joined, storage_mistake
from crossover.trainers.storage import ObjectStore, StorageError, object_store

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ObjectStore:
    """A folder of its own, with some patience and an open gate."""
    store.open()
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
    monkeypatch.setattr(object_store, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(object_store, "_EXPERIENCES", {})
    found = ObjectStore(store.uri(f"bucket/{request.node.name.partition('[')[0]}"))
    found.put("there", b"1")
    return found


def test_small_objects_are_one_request_and_seen_at_once(folder: ObjectStore, store: Store) -> None:
    store.requests.clear()
    folder.put("a/b.json", b"first")
    assert [request.partition(" ")[0] for request in store.requests] == ["PUT"]
    assert folder.get("a/b.json") == b"first"
    folder.put("a/b.json", b"second")
    assert folder.get("a/b.json") == b"second"
    assert folder.get("a/c.json") is None


def test_files_go_up_and_come_down_and_are_listed_by_name(folder: ObjectStore, tmp_path: Path) -> None:
    big = bytes(range(256)) * (1 << 16)  # several parts
    (tmp_path / "big").write_bytes(big)
    (tmp_path / "small").write_bytes(b"")
    folder.upload({"x/big": tmp_path / "big", "x/y/small": tmp_path / "small"})
    assert {name: file.size for name, file in folder.list("x").items()} == {"x/big": len(big), "x/y/small": 0}
    assert set(folder.list(recursive=False)) == {"there"}
    folder.download({"x/big": tmp_path / "new/copy"})
    assert (tmp_path / "new/copy").read_bytes() == big
    folder.remove_folders(["x/y", "nothing"])
    folder.remove(["there", "nothing"])
    assert set(folder.list()) == {"x/big"}
    assert folder.folder("nowhere").list() == {}


def test_what_is_not_there_cannot_be_fetched_and_leaves_nothing(folder: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.download({"nothing": tmp_path / "nothing"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["throttle", "expired", "denied"])
def test_trouble_that_passes_costs_time_only(answer: str, folder: ObjectStore, store: Store) -> None:
    troubles = iter([answer] * 4)
    store.gate = lambda number, environ: next(troubles, None)
    folder.put("a", b"whole")
    troubles = iter([answer] * 4)
    assert folder.get("a") == b"whole"
    troubles = iter([answer] * 4)
    assert set(folder.list()) == {"a", "there"}


def test_a_store_that_is_away_for_a_while_is_waited_for(folder: ObjectStore, store: Store) -> None:
    waiting = store.down_for(0.7)
    folder.put("a", b"whole")
    waiting.join()
    assert folder.get("a") == b"whole"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param("throttle", "see whether it is up and reached from here", marks=pytest.mark.slow),
        ("expired", "its credentials have expired or are refused: renew them"),
    ],
)
def test_who_waited_in_vain_says_so_once_and_then_at_once(
    answer: str, said: str, folder: ObjectStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "0.1")
    store.gate = lambda number, environ: answer
    with pytest.raises(StorageError, match=r"s3://bucket/.*/a cannot be written.*: .*") as raised:
        folder.put("a", b"")
    assert said in str(raised.value) and "run the same command again" in str(raised.value)
    assert "endpoint_override" not in str(raised.value).partition(" cannot")[0]
    with monkeypatch.context() as patched:
        patched.setattr(object_store, "_pause", lambda seconds: pytest.fail("it waits again"))
        patched.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
        with pytest.raises(StorageError):
            folder.get("a")
    store.open()
    folder.put("a", b"")
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
    store.gate = lambda number, environ: answer if number < 6 else None
    folder.put("a", b"")


def test_credentials_that_never_worked_are_refused_at_once(
    folder: ObjectStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_EXPERIENCES", {})
    store.gate = lambda number, environ: "denied"
    store.requests.clear()
    with pytest.raises(StorageError, match=r"cannot be read: .*ACCESS_DENIED.* renew them"):
        folder.get("a")
    assert len(store.requests) == 1


def test_a_bucket_that_is_not_there_is_one_message(folder: ObjectStore, store: Store) -> None:
    query = store.query.replace("&allow_bucket_creation=true", "")
    with pytest.raises(StorageError, match=r"no-such-bucket.* cannot be written.*make the bucket"):
        ObjectStore(f"s3://no-such-bucket/runs?{query}").put("a", b"")


def test_google_storage_is_opened_by_the_same_client() -> None:
    store = ObjectStore("gs://anonymous@bucket/runs?scheme=http&endpoint_override=127.0.0.1:9&retry_limit_seconds=0.1")
    object_store._EXPERIENCES.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CROSSOVER_STORAGE_PATIENCE", "0")
        with pytest.raises(StorageError, match=r"gs://anonymous@bucket/runs/a cannot be written.*connect"):
            store.put("a", b"")


def test_names_go_before_what_a_uri_asks() -> None:
    assert joined("s3://bucket/runs/?region=x&scheme=http", "study") == "s3://bucket/runs/study?region=x&scheme=http"
    assert joined("runs", "study") == "runs/study"
    assert joined("s3://bucket?region=x", "") == "s3://bucket?region=x"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ftp://host/runs", "kept in a folder, or in an object store"),
        ("s3:///runs", "names no bucket"),
        ("s3://key:secret@bucket/runs", "holds no credentials"),
    ],
)
def test_places_that_cannot_be_are_refused_without_their_secrets(value: str, said: str) -> None:
    mistake = storage_mistake(value)
    assert mistake is not None and said in mistake and "secret@" not in mistake
    assert [storage_mistake(good) for good in ("./runs", "s3://b/x?region=y", "gs://b", "gs://anonymous@b/x")] == [
        None
    ] * 4


def test_a_patience_that_is_no_number_is_refused(folder: ObjectStore, store: Store, monkeypatch: Any) -> None:
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "long")
    store.gate = lambda number, environ: "denied"
    with pytest.raises(CrossoverError, match="CROSSOVER_STORAGE_PATIENCE = 'long' is no number of seconds"):
        folder.get("a")
