from __future__ import annotations

import json
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import record_examples as example
import torch

from crossover.trainers import durable, record_start
from crossover.trainers.checkpoint import Checkpoint, read_tensors
from crossover.trainers.errors import RecordError
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_writer import open_record

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing guards against a loss of power, which no test here can cause, and takes most of the time."""
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return example.written(tmp_path / "trial")


def test_a_trial_goes_on_from_its_newest_commit(folder: Path) -> None:
    with open_record(folder, example.facts()) as writer:
        restored = writer.restore()
        assert restored is not None
        assert restored.evaluations == example.rows(3)
        assert restored.checkpoint.scalars == {"step": 3}
        assert read_tensors(writer.record.best_weights())["weight"].tolist() == [3.0] * 3


def test_two_commits_and_the_best_weights_they_need_are_kept(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "commits").iterdir()) == ["1", "2"]
    assert sorted(path.name for path in (folder / "best").iterdir()) == ["2", "3"]
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        for _ in range(2):
            writer.commit(example.rows(3), example.checkpoint(3))
    assert sorted(path.name for path in (folder / "best").iterdir()) == ["3"]


def test_rows_alone_may_be_committed_and_do_not_push_out_checkpoints(folder: Path) -> None:
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        for step in (4, 5, 6):
            writer.commit(example.rows(step), None, window_nats={step: example.window_nats(step)})
    assert TrialRecord(folder).evaluations() == example.rows(6)
    with open_record(folder, example.facts()) as writer:
        restored = writer.restore()
        assert restored is not None and restored.evaluations == example.rows(3)
    assert TrialRecord(folder).evaluations() == example.rows(3)
    assert not (folder / "windows/6.npy").exists()


@pytest.mark.parametrize("damage", example.DAMAGES)
@pytest.mark.parametrize(
    "file",
    [
        "commits/2/checkpoint/model.safetensors",
        "commits/2/checkpoint/optimizer.safetensors",
        "commits/2/checkpoint/state.json",
        "commits/2/evaluations.arrow",
        "commits/2/COMMIT.json",
        "best/3/weights.safetensors",
        "windows/3.npy",
    ],
)
def test_a_damaged_commit_is_refused_by_name_and_the_one_before_is_used(
    folder: Path, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / file)
    with open_record(folder, example.facts()) as writer, caplog.at_level(logging.WARNING):
        restored = writer.restore()
        assert restored is not None
        assert restored.evaluations == example.rows(2)
        assert restored.checkpoint.scalars == {"step": 2}
        assert read_tensors(writer.record.best_weights())["weight"].tolist() == [2.0] * 3
        assert "commits/2 is refused" in caplog.text
        assert TrialRecord(folder).evaluations() == example.rows(2), "rows after the commit that is used vanish"
        example.commit_rows(writer, 3, first=3)
    with open_record(folder, example.facts()) as writer:
        again = writer.restore()
    assert again is not None and again.evaluations == example.rows(3)


def test_no_valid_checkpoint_is_an_error_and_not_a_silent_start_over(folder: Path) -> None:
    for commit in (folder / "commits").iterdir():
        example.flip_a_bit(commit / "checkpoint/model.safetensors")
    with open_record(folder, example.facts()) as writer, pytest.raises(RecordError, match=r"tried 2, 1.*remove"):
        writer.restore()
    assert TrialRecord(folder).evaluations() == example.rows(3), "nothing is removed"


def test_damaged_best_weights_are_refused_when_read(folder: Path) -> None:
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        example.flip_a_bit(folder / "best/3/weights.safetensors")
        with pytest.raises(RecordError, match=r"best/3/weights\.safetensors is refused"):
            writer.record.best_weights()


@pytest.mark.parametrize(
    "change", [{"trial_id": "f" * 16}, {"subset_hash": "other"}, {"data_hash": "other"}, {"schema_version": 2}]
)
def test_a_folder_of_another_trial_is_refused(folder: Path, change: dict[str, object]) -> None:
    with (
        pytest.raises(RecordError, match=f"another trial \\({next(iter(change))} "),
        open_record(folder, example.facts(**change)),
    ):
        pass
    assert TrialRecord(folder).facts() == example.facts()


def test_the_facts_are_those_of_the_first_start(folder: Path) -> None:
    with open_record(folder, example.facts(created="2030-01-01T00:00:00+00:00", git_commit="later")):
        pass
    assert TrialRecord(folder).facts() == example.facts()


@pytest.mark.parametrize("content", ["", "{}", "no json"])
def test_damaged_facts_are_refused_by_name(folder: Path, content: str) -> None:
    (folder / "trial.json").write_text(content)
    with pytest.raises(RecordError, match=r"trial\.json"), open_record(folder, example.facts()):
        pass


def test_a_second_writer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_start, "_LOCK_PATIENCE_SECONDS", 0.0)
    with (
        open_record(folder, example.facts()),
        pytest.raises(RecordError, match="being written by another process"),
        open_record(folder, example.facts()),
    ):
        pass
    with open_record(folder, example.facts()) as writer:
        assert writer.restore() is not None


class Killed(BaseException):
    """Stands for SIGKILL: nothing cleans up after it, for the functions that would are cut off too."""


@contextmanager
def killed_after(points: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iterator[int]]:
    """The process may die before and after each rename and each removal; it survives so many of these points."""
    left = iter(range(points))

    def die_if_due() -> None:
        if next(left, None) is None:
            raise Killed

    def cut(function: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **keywords: object) -> object:
            die_if_due()
            result = function(*arguments, **keywords)
            die_if_due()
            return result

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (durable.shutil, "rmtree")):
            patch.setattr(owner, name, cut(getattr(owner, name)))
        yield left


POINTS = 22


@pytest.mark.parametrize("survive", range(POINTS))
def test_a_kill_between_any_two_operations_leaves_the_old_or_the_new_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survive: int
) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 3)
        writer.wait()
        with killed_after(survive, monkeypatch), pytest.raises(Killed):
            example.commit_rows(writer, 4, first=4)
            writer.wait()
    assert TrialRecord(tmp_path).evaluations() in (example.rows(3), example.rows(4))
    with open_record(tmp_path, example.facts()) as writer:
        restored = writer.restore()
        assert restored is not None
        done = len(restored.evaluations)
        assert done in (3, 4)
        assert restored.evaluations == example.rows(done) == TrialRecord(tmp_path).evaluations()
        assert read_tensors(writer.record.best_weights())["weight"].tolist() == [float(done)] * 3
        assert not list(tmp_path.rglob(".tmp-*"))
        example.commit_rows(writer, 5, first=done + 1)
    assert TrialRecord(tmp_path).evaluations() == example.rows(5)


def test_the_kill_test_tries_every_point_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_record(tmp_path, example.facts()) as writer:
        example.commit_rows(writer, 3)
        writer.wait()
        with killed_after(10**6, monkeypatch) as left:
            example.commit_rows(writer, 4, first=4)
            writer.wait()
        assert next(left) == POINTS


def test_a_full_disk_is_one_error_that_names_the_path_and_loses_nothing(folder: Path) -> None:
    large = Checkpoint({"model": {"weight": torch.ones(100_000)}}, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(RecordError, match=r"commits/3 cannot be written: .*the same command again"):
                writer.commit(example.rows(4), large)
                writer.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert TrialRecord(folder).evaluations() == example.rows(3)
    assert not list(folder.rglob(".tmp-*"))


def test_a_folder_that_cannot_be_made_is_one_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RecordError, match=r"file/trial cannot be written: Not a directory"),
        open_record(tmp_path / "file" / "trial", example.facts()),
    ):
        pass


def test_a_commit_says_the_digest_of_all_that_it_holds_and_needs(folder: Path) -> None:
    outer = json.loads((folder / "commits/2/COMMIT.json").read_text())
    commit = json.loads(outer["commit"])
    assert set(commit["files"]) == {
        "evaluations.arrow",
        *(f"checkpoint/{name}" for name in ("model.safetensors", "optimizer.safetensors", "averages.safetensors")),
        "checkpoint/state.json",
    }
    assert set(commit["needs"]) == {"windows/1.npy", "windows/2.npy", "windows/3.npy", "best/3/weights.safetensors"}
