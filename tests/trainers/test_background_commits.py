"""Commits are written while training goes on: what that must not change."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import record_examples as example
import torch

from crossover.trainers import durable
from crossover.trainers.checkpoint import Checkpoint, read_tensors
from crossover.trainers.commit_files import CommitFiles
from crossover.trainers.errors import RecordError
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_writer import RecordWriter, open_record
from crossover.trainers.rows import TrialEnd
from crossover.trainers.shards import owned_pieces
from crossover.trainers.snapshot import HostBuffers, Snapshot

pytestmark = pytest.mark.integration

END = TrialEnd(stop_reason="completed", stop_evidence="all epochs are done")


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)


class Gate:
    """The writer's thread stops at it, once for each commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        self.numbers: list[int] = []
        write = CommitFiles.write

        def gated(files: CommitFiles, snapshot: Snapshot) -> None:
            self.numbers.append(snapshot.number)
            self.reached.release()
            assert self.opened.acquire(timeout=10)
            write(files, snapshot)

        monkeypatch.setattr(CommitFiles, "write", gated)

    def open(self, commits: int = 1) -> None:
        self.opened.release(commits)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@contextmanager
def limited_files(num_bytes: int) -> Iterator[None]:
    """The system refuses larger ones, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def large(step: int) -> Checkpoint:
    return Checkpoint({"model": {"weight": torch.full((100_000,), float(step))}}, {"step": step})


def test_a_commit_is_what_the_tensors_were_when_it_was_made(tmp_path: Path, gate: Gate) -> None:
    weights, rows, best = torch.zeros(5), example.rows(1), torch.zeros(3)
    windows = {1: example.window_nats(1)}
    with open_record(tmp_path, example.facts()) as writer:
        writer.commit(rows, Checkpoint({"model": {"w": weights}}, {}), window_nats=windows, best=(1, {"weight": best}))
        weights.fill_(1.0)
        best.fill_(1.0)
        rows.append(example.row(2))
        windows.clear()
        gate.open()
        writer.wait()
        restored = writer.restore()
        assert restored is not None
        assert restored.evaluations == example.rows(1)
        assert restored.checkpoint.tensors["model"]["w"].tolist() == [0.0] * 5
        assert read_tensors(writer.record.best_weights())["weight"].tolist() == [0.0] * 3
        assert writer.record.window_nats(1).tolist() == [1.0] * 4


def test_the_next_commit_waits_for_the_one_before_and_the_order_stays(tmp_path: Path, gate: Gate) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 1)
        assert gate.reached.acquire(timeout=10)
        second = threading.Thread(target=example.commit_rows, args=(writer, 3, 2))
        second.start()
        assert not gate.reached.acquire(timeout=0.1), "one is in flight"
        assert TrialRecord(tmp_path).evaluations() == []
        gate.open(3)
        second.join()
    assert gate.numbers == [0, 1, 2]
    assert TrialRecord(tmp_path).evaluations() == example.rows(3)


def test_leaving_waits_for_the_last_commit(tmp_path: Path, gate: Gate) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 1)
        threading.Timer(0.05, gate.open).start()
    assert TrialRecord(tmp_path).evaluations() == example.rows(1)


def test_leaving_by_an_exception_waits_too(tmp_path: Path, gate: Gate) -> None:
    with pytest.raises(KeyboardInterrupt), open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 1)
        threading.Timer(0.05, gate.open).start()
        raise KeyboardInterrupt
    assert TrialRecord(tmp_path).evaluations() == example.rows(1)


def test_the_end_comes_after_the_last_commit(tmp_path: Path, gate: Gate) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 1)
        threading.Timer(0.05, gate.open).start()
        writer.finish(END, None)
        assert TrialRecord(tmp_path).evaluations() == example.rows(1)
    assert TrialRecord(tmp_path).end() == END


CALLS: dict[str, Callable[[RecordWriter], None]] = {
    "commit": lambda writer: writer.commit(example.rows(4), large(4)),
    "wait": lambda writer: writer.wait(),
    "finish": lambda writer: writer.finish(END, None),
    "leave": lambda writer: None,
}


@pytest.mark.parametrize("call", CALLS)
def test_what_failed_is_told_by_the_next_call_and_the_commit_before_stands(tmp_path: Path, call: str) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 2)

    def fail() -> None:
        with limited_files(100_000), open_record(tmp_path, example.facts()) as writer:
            writer.restore()
            writer.commit(example.rows(3), large(3))
            CALLS[call](writer)

    with pytest.raises(RecordError, match=r"commits/2 cannot be written: .*too large.*the same command again"):
        fail()
    assert TrialRecord(tmp_path).evaluations() == example.rows(2)
    assert TrialRecord(tmp_path).end() is None
    assert not list(tmp_path.rglob(".tmp-*"))
    with open_record(tmp_path, example.facts()) as writer:
        restored = writer.restore()
        assert restored is not None and restored.checkpoint.scalars == {"step": 2}
        writer.commit(example.rows(3), large(3))
    assert TrialRecord(tmp_path).evaluations() == example.rows(3), "there is room again"


def test_after_a_failure_nothing_is_committed_and_leaving_does_not_tell_it_again(tmp_path: Path) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        with limited_files(100_000), pytest.raises(RecordError):
            writer.commit(example.rows(1), large(1))
            writer.wait()
        with pytest.raises(RecordError, match="commits/0 cannot be written"):
            example.commit_rows(writer, 2)
    assert TrialRecord(tmp_path).evaluations() == []


def test_an_exception_is_not_hidden_by_a_commit_that_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt), limited_files(100_000), open_record(tmp_path, example.facts()) as writer:
        writer.commit(example.rows(1), large(1))
        raise KeyboardInterrupt
    assert "commits/0 cannot be written" in caplog.text


def test_a_reader_sees_old_rows_or_new_ones_at_any_moment(tmp_path: Path) -> None:
    stop = threading.Event()

    def read() -> list[int]:
        seen = [0]
        while not stop.is_set():
            seen.append(len(TrialRecord(tmp_path).evaluations()))
        return seen

    with ThreadPoolExecutor(1) as thread, open_record(tmp_path, example.facts()) as writer:
        reading = thread.submit(read)
        example.commit_rows(writer, 20)
        writer.wait()
        stop.set()
        seen = reading.result()
    assert len(set(seen)) > 2 and seen == sorted(seen)


def test_host_memory_is_allocated_once(tmp_path: Path) -> None:
    state = {"w": torch.zeros(3), "step": torch.tensor(1.0)}
    buffers = HostBuffers()
    first = buffers.copied({"model": owned_pieces(state, 0)})
    state["w"].fill_(2.0)
    second = buffers.copied({"model": owned_pieces(state, 0)})
    for name in state:
        assert first["model"][name].tensor.data_ptr() == second["model"][name].tensor.data_ptr()
    assert second["model"]["w"].tensor.tolist() == [2.0] * 3
    grown = buffers.copied({"model": owned_pieces({"w": torch.ones(4)}, 0)})
    assert grown["model"]["w"].tensor.tolist() == [1.0] * 4
