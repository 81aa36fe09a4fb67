"""A trial whose record lies in a store: interrupted, resumed on another machine, cut off in the middle, fenced off."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loop_examples as example
import numpy as np
import pytest
from s3_server import Store

from crossover.trainers.config import TrialConfig
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.storage import ObjectStore, PublishedRecord, StorageError, object_store

pytestmark = pytest.mark.integration


@dataclass
class Trial:
    """One trial in a store, which can be run on several machines."""

    config: TrialConfig
    store: ObjectStore
    machines: Path

    def run(self, machine: str, **changes: Any) -> LegEnd:
        """A leg, on a machine that knows nothing but the store, or what it has left there itself."""
        given = {"published": PublishedRecord(self.store), **changes}
        return train(self.config, example.ScriptedRun(self.machines / machine, **given))

    def record(self) -> TrialRecord:
        """What lies in the store, whole."""
        folder = self.machines / "downloaded"
        shutil.rmtree(folder, ignore_errors=True)
        self.store.download({name: folder / name for name in self.store.list()})
        return TrialRecord(folder)


@pytest.fixture
def trial(
    store: Store,
    tiny_corpus: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Trial:
    store.open()
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
    monkeypatch.setattr(object_store, "_FIRST_PAUSE_SECONDS", 0.02)
    return Trial(example.config(tiny_corpus), ObjectStore(store.uri(f"bucket/{request.node.name}")), tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialRecord:
    """The record of the same trial on a disk, which nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(example.config(tiny_corpus), example.ScriptedRun(folder))
    return TrialRecord(folder)


def after(steps: int) -> Any:
    """Answers a poll once so many steps are done."""

    def answer(progress: Progress) -> StopRequest | None:
        return StopRequest("interrupted", "a test") if progress.step >= steps else None

    return answer


def assert_same(record: TrialRecord, expected: TrialRecord) -> None:
    assert example.bits(record.evaluations()) == example.bits(expected.evaluations())
    for row in expected.evaluations():
        np.testing.assert_array_equal(record.window_nats(row.step), expected.window_nats(row.step))
    np.testing.assert_array_equal(record.test_window_nats(), expected.test_window_nats())
    assert record.best_weights().read_bytes() == expected.best_weights().read_bytes()


def test_the_store_has_the_record_that_a_disk_would_have(trial: Trial, undisturbed: TrialRecord) -> None:
    assert trial.run("a").status == "ended"
    assert_same(trial.record(), undisturbed)
    files = {path.relative_to(undisturbed.path).as_posix() for path in undisturbed.path.rglob("*") if path.is_file()}
    assert set(trial.store.list()) == files, "nothing is left behind, nothing is missing"


def test_a_trial_goes_on_on_another_machine(trial: Trial, undisturbed: TrialRecord) -> None:
    assert trial.run("a", answer=after(7)).status == "interrupted"
    assert trial.run("b", answer=after(13)).status == "interrupted"
    assert trial.run("a").status == "ended", "what it left on this machine is older than the store"
    assert_same(trial.record(), undisturbed)
    assert trial.run("c").status == "ended"


def test_what_makes_a_commit_is_put_last(trial: Trial, store: Store) -> None:
    trial.run("a", answer=after(7))
    puts = [name.partition("/test_")[2].partition("/")[2] for name in store.requests if name.startswith("PUT")]
    for at, name in enumerate(puts):
        if not name.endswith("COMMIT.json"):
            continue
        folder = name.removesuffix("COMMIT.json")
        assert not [late for late in puts[at:] if late.startswith(folder) and late not in (name, folder)]
    assert puts[0] == "trial.json"


@pytest.mark.parametrize("cut_off_after", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 6, 9, 11))])
def test_cut_off_in_the_middle_a_trial_goes_on_from_the_last_whole_commit(
    cut_off_after: int, trial: Trial, store: Store, undisturbed: TrialRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trial.run("a", answer=after(7)).status == "interrupted"
    before = trial.record().newest_commit()
    assert before is not None
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "0.1")
    puts = 0

    def gate(number: int, environ: dict[str, Any]) -> str | None:
        nonlocal puts
        puts += environ["REQUEST_METHOD"] == "PUT"
        return "denied" if puts > cut_off_after else None

    store.gate = gate
    with pytest.raises(StorageError, match="run the same command again"):
        trial.run("b")
    store.open()
    after_it = trial.record().newest_commit()
    assert after_it is not None and after_it[0].number >= before[0].number
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
    assert trial.run("c").status == "ended"
    assert_same(trial.record(), undisturbed)


def test_cut_off_in_its_first_commit_a_trial_begins_anew(
    trial: Trial, store: Store, undisturbed: TrialRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "0.1")
    begun: list[str] = []

    def gate(number: int, environ: dict[str, Any]) -> str | None:
        if environ["REQUEST_METHOD"] == "PUT" and "/commits/" in environ["PATH_INFO"]:
            begun.append(environ["PATH_INFO"])
        return "denied" if len(begun) > 2 else None

    store.gate = gate
    with pytest.raises(StorageError, match="run the same command again"):
        trial.run("a")
    store.open()
    assert [name for name in trial.store.list() if name.startswith("commits/")], "nothing of a commit was there"
    monkeypatch.setenv("CROSSOVER_STORAGE_PATIENCE", "30")
    assert trial.run("b", answer=after(1)).status == "interrupted", "a machine that has nothing of it"
    assert trial.run("a").status == "ended", "the one that was cut off"
    assert_same(trial.record(), undisturbed)


def test_a_store_that_is_away_for_a_while_stops_no_trial(trial: Trial, store: Store, undisturbed: TrialRecord) -> None:
    waiting = []

    def answer(progress: Progress) -> None:
        if progress.step == 5 and not waiting:
            waiting.append(store.down_for(1.0))

    assert trial.run("a", answer=answer).status == "ended"
    waiting[0].join()
    assert_same(trial.record(), undisturbed)


def test_a_damaged_commit_is_refused_and_the_one_before_it_used(
    trial: Trial, undisturbed: TrialRecord, caplog: pytest.LogCaptureFixture
) -> None:
    trial.run("a", answer=after(9))
    names = [name for name in trial.store.list() if name.endswith("model.safetensors")]
    newest = max(names, key=lambda name: int(name.split("/")[1]))
    assert len(names) == 2
    trial.store.put(newest, b"damaged")
    assert trial.run("b").status == "ended"
    assert "model.safetensors is missing, truncated or altered; the commit before it is used" in caplog.text
    assert_same(trial.record(), undisturbed)


def test_who_is_no_longer_the_writer_writes_no_commit(trial: Trial) -> None:
    trial.run("a", answer=after(7))
    before = trial.store.list()
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise StorageError("another driver has the study")

    with pytest.raises(StorageError, match="another driver"):
        trial.run("b", published=PublishedRecord(trial.store, check))
    assert trial.store.list() == before
