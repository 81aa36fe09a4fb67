"""A machine's copy of a study in a store: up to date, without checkpoints, and never half of anything."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from s3_server import Store

from crossover.platform.execution.decisions import AttemptStarted, DecisionLog, LegStarted, Suggested, read_decisions
from crossover.platform.execution.lock import lock_holder
from crossover.platform.storage import remote_study
from crossover.platform.storage.remote_study import DecisionParts, RemoteStudy
from crossover.platform.storage.views import StudyPlace
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore, StorageError

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(
    store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> ObjectStore:
    store.open()
    monkeypatch.setenv("CROSSOVER_CACHE", str(tmp_path / "cache"))
    return ObjectStore(store.uri(f"bucket/{request.node.name}"))


def suggested(trial_id: str) -> Suggested:
    return Suggested(
        trial_id=trial_id,
        number=0,
        stratum={},
        stratum_label="all",
        settings={},
        repeat=0,
        config_hash="",
        purpose="search",
    )


def started(pid: int = 1) -> AttemptStarted:
    return AttemptStarted(pid=pid, host="a", versions={}, resumed=False)


def write_log(folder: ObjectStore, copy: Path, *lines: Any) -> None:
    log = DecisionLog(copy, DecisionParts(folder, lambda: None))
    for line in lines:
        log.append(line)
    log.close()


def test_decisions_are_in_the_store_before_they_have_an_effect(
    folder: ObjectStore, store: Store, tmp_path: Path
) -> None:
    driver, reader = tmp_path / "driver", RemoteStudy(folder.uri, tmp_path / "reader")
    driver.mkdir()
    log = DecisionLog(driver, DecisionParts(folder, lambda: None))
    log.append(started())
    store.requests.clear()
    log.append(suggested("a"))
    assert not store.requests, "it has no effect before its leg starts"
    log.append(LegStarted(trial_id="a", leg=1))
    reader.fetch()
    assert read_decisions(reader.copy) == read_decisions(driver)
    assert len(read_decisions(driver)) == 3
    log.append(suggested("b"))
    log.close()
    reader.fetch()
    assert len(read_decisions(reader.copy)) == 4


def test_a_long_log_is_kept_in_parts_that_are_written_once(
    folder: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_study, "_PART_BYTES", 1000)
    for attempt in (1, 2):
        write_log(folder, tmp_path, started(attempt), *(LegStarted(trial_id=f"{n}", leg=1) for n in range(30)))
    parts = folder.list("decisions")
    assert len(parts) == 6 and all(file.size < 1300 for file in parts.values())
    reader = RemoteStudy(folder.uri, tmp_path / "reader")
    reader.fetch()
    assert read_decisions(reader.copy) == read_decisions(tmp_path)
    assert sorted(path.name for path in (reader.copy / "decisions").iterdir()) == ["0001.jsonl", "0002.jsonl"]


def test_a_driver_that_was_succeeded_decides_nothing_more(folder: ObjectStore, tmp_path: Path) -> None:
    def check() -> None:
        raise StorageError("another driver has it")

    log = DecisionLog(tmp_path, DecisionParts(folder, check))
    with pytest.raises(StorageError, match="another driver"):
        log.append(started())
    assert not folder.list("decisions")


def test_a_copy_takes_up_what_changed_and_nothing_else(folder: ObjectStore, store: Store, tmp_path: Path) -> None:
    write_log(folder, tmp_path, started(), suggested("a"), LegStarted(trial_id="a", leg=1))
    trial = folder.folder("trials/a")
    for name in ("trial.json", "commits/1/COMMIT.json", "commits/1/evaluations.arrow", "commits/1/checkpoint/m"):
        trial.put(name, name.encode())
    for name in ("windows/5.npy", "best/5/weights.safetensors"):
        trial.put(name, name.encode())
    time.sleep(2.1)  # what is younger is fetched again: times of objects are whole seconds
    reader = RemoteStudy(folder.uri, tmp_path / "reader", with_windows=True)
    reader.fetch()

    def names() -> set[str]:
        root = reader.copy / "trials/a"
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    commit = {"commits/1/COMMIT.json", "commits/1/evaluations.arrow"}
    assert names() == {"trial.json", "windows/5.npy", *commit}
    for number in (2, 3, 4):
        for name in ("COMMIT.json", "evaluations.arrow"):
            trial.put(f"commits/{number}/{name}", b"new")
    trial.remove_folders(["commits/1"])
    store.requests.clear()
    reader.fetch()
    assert {name for name in names() if name.startswith("commits")} == {
        f"commits/{number}/{name}" for number in (3, 4) for name in ("COMMIT.json", "evaluations.arrow")
    }
    assert not [request for request in store.requests if request.endswith(("trial.json", "5.npy"))]
    deciding = RemoteStudy(folder.uri, tmp_path / "driver")
    deciding.fetch()
    assert not (deciding.copy / "trials/a/windows").exists()


def test_a_new_study_of_the_same_name_drops_the_copy_of_the_old_one(folder: ObjectStore, tmp_path: Path) -> None:
    write_log(folder, tmp_path / "first", started(1), suggested("a"), LegStarted(trial_id="a", leg=1))
    folder.put("study.yaml", b"old")
    folder.put("trials/a/end.json", b"old")
    reader = RemoteStudy(folder.uri, tmp_path / "reader")
    reader.fetch()
    assert (reader.copy / "trials/a/end.json").read_bytes() == b"old"
    folder.remove_folders(["trials", "decisions"])
    folder.remove(["study.yaml"])
    write_log(folder, tmp_path / "second", started(2), suggested("a"), LegStarted(trial_id="a", leg=1))
    reader.fetch()
    assert not (reader.copy / "trials").exists() and not (reader.copy / "study.yaml").exists()


def test_a_folder_without_a_study_is_refused_by_its_uri(folder: ObjectStore) -> None:
    with pytest.raises(CrossoverError, match=r"^s3://bucket/test_a_folder.* is no study's folder"):
        StudyPlace.of(folder.uri)
    with pytest.raises(CrossoverError, match="kept in a folder, or in an object store"):
        StudyPlace.of("ftp://host/study")


def test_who_runs_it_is_known_to_readers(folder: ObjectStore) -> None:
    folder.put("study.yaml", b"")
    holder = {"pid": 7, "host": os.uname().nodename, "copy_at": "/a", "term": 1}
    folder.put("LOCK", json.dumps(holder).encode())
    place = StudyPlace.of(folder.uri)
    assert lock_holder(place.path) == f"process 7 on {os.uname().nodename}"
    folder.put("LOCK", json.dumps({**holder, "is_over": True}).encode())
    place.update()
    assert lock_holder(place.path) is None
