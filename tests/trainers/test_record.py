from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import record_examples as example

from crossover.trainers.errors import RecordError
from crossover.trainers.record import (
    EVALUATION_SCHEMA,
    TrialRecord,
    WindowFacts,
    decisions_of,
    evaluations_from_bytes,
    evaluations_to_bytes,
    rows_from_bytes,
)
from crossover.trainers.record_writer import open_record
from crossover.trainers.rows import SCHEMA_VERSION, Evaluation, TrialEnd

END = TrialEnd(stop_reason="completed", stop_evidence="all epochs are done")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return example.written(tmp_path / "trial")


def test_missing_stays_missing_and_non_finite_stays_as_it_is() -> None:
    rows = [example.row(1, val_loss=math.nan, train_loss=None), example.row(2, val_loss=math.inf, grad_norm=-math.inf)]
    back = evaluations_from_bytes(evaluations_to_bytes(rows))
    assert back[0].train_loss is None
    assert math.isnan(back[0].val_loss)
    assert (back[1].val_loss, back[1].grad_norm) == (math.inf, -math.inf)


def test_every_column_of_a_row_comes_back_and_has_a_type() -> None:
    assert EVALUATION_SCHEMA.names == list(Evaluation.model_fields)
    assert evaluations_from_bytes(evaluations_to_bytes(example.rows(5))) == example.rows(5)
    assert evaluations_from_bytes(evaluations_to_bytes([])) == []


def test_rows_carry_their_schema_version_and_another_one_is_refused() -> None:
    table = pa.ipc.open_file(evaluations_to_bytes(example.rows(1))).read_all()
    assert table.schema.metadata == {b"schema_version": str(SCHEMA_VERSION).encode()}
    sink = pa.BufferOutputStream()
    newer = table.replace_schema_metadata({"schema_version": "99"})
    with pa.ipc.new_file(sink, newer.schema) as writer:
        writer.write_table(newer)
    with pytest.raises(RecordError, match=f"schema version 99, and this release reads {SCHEMA_VERSION}"):
        evaluations_from_bytes(sink.getvalue().to_pybytes())


def test_a_record_that_has_not_begun_is_empty(tmp_path: Path) -> None:
    record = TrialRecord(tmp_path / "nothing")
    assert record.facts() is None
    assert record.evaluations() == []
    assert record.best_step() is None
    assert record.end() is None
    assert record.test_window_nats() is None
    with pytest.raises(RecordError, match="no best weights"):
        record.best_weights()
    with pytest.raises(RecordError, match=r"1\.npy cannot be read"):
        record.window_nats(1)
    with pytest.raises(RecordError, match=r"facts\.npz cannot be read"):
        record.window_facts("test")


def test_what_was_committed_is_read_back(folder: Path) -> None:
    record = TrialRecord(folder)
    assert record.facts() == example.facts()
    assert record.evaluations() == example.rows(3)
    assert record.best_step() == 3
    for step in (1, 2, 3):
        np.testing.assert_array_equal(record.window_nats(step), example.window_nats(step))
    assert record.window_nats(1).dtype == np.float32


def test_window_facts_of_both_splits_are_read_back(tmp_path: Path) -> None:
    splits = {s: WindowFacts(*(np.arange(3) + 10 * i + k for k in range(3))) for i, s in enumerate(("v", "t"))}
    with open_record(tmp_path, example.facts()) as writer:
        writer.write_window_facts(splits["v"], splits["t"])
        writer.write_window_facts(splits["t"], splits["v"])
    read = TrialRecord(tmp_path).window_facts("test")
    np.testing.assert_array_equal(read.document, splits["t"].document)
    np.testing.assert_array_equal(TrialRecord(tmp_path).window_facts("validation").num_bytes, splits["v"].num_bytes)


def test_the_end_is_read_back_and_only_the_last_commit_stays(folder: Path) -> None:
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        writer.finish(END, np.ones(2, dtype=np.float32))
    record = TrialRecord(folder)
    assert record.end() == END
    np.testing.assert_array_equal(record.test_window_nats(), np.ones(2, dtype=np.float32))
    assert record.evaluations() == example.rows(3)
    assert record.paths.commit_numbers() == [2]


@pytest.mark.parametrize("damage", example.DAMAGES)
def test_a_reader_falls_back_on_the_commit_before_damaged_rows(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / "commits/2/evaluations.arrow")
    with caplog.at_level(logging.WARNING):
        assert TrialRecord(folder).evaluations() == example.rows(2)
    assert "commits/2 is refused" in caplog.text


def test_a_reader_finds_the_rows_of_a_trial_that_goes_on_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed_before = TrialRecord(folder).paths.commit_numbers()
    with open_record(folder, example.facts()) as writer:
        writer.restore()
        example.commit_rows(writer, 6, first=4)
    paths = type(TrialRecord(folder).paths)
    now = paths.commit_numbers
    answers = iter([listed_before])
    monkeypatch.setattr(paths, "commit_numbers", lambda self: next(answers, None) or now(self))
    assert TrialRecord(folder).evaluations() == example.rows(6)


def test_no_readable_rows_at_all_is_an_error_that_says_what_to_do(folder: Path) -> None:
    for commit in (folder / "commits").iterdir():
        example.flip_a_bit(commit / "evaluations.arrow")
    with pytest.raises(RecordError, match=r"no commit under .*commits has readable rows.*tried 1, 2.*remove"):
        TrialRecord(folder).evaluations()


@pytest.mark.parametrize("content", ["", "[]", '{"stop_reason": "tired", "stop_evidence": ""}', '{"x": 1}'])
def test_a_damaged_end_is_refused_by_name(folder: Path, content: str) -> None:
    (folder / "end.json").write_text(content)
    with pytest.raises(RecordError, match=r"end\.json"):
        TrialRecord(folder).end()


@pytest.mark.parametrize("content", [b"", b"xx", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_damaged_losses_are_refused_in_plain_words(content: bytes, folder: Path) -> None:
    for path, read in (
        (folder / "windows" / "test.npy", lambda: TrialRecord(folder).test_window_nats()),
        (folder / "windows" / "facts.npz", lambda: TrialRecord(folder).window_facts("test")),
    ):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=rf"{path.name} cannot be read: it is cut off or altered. Restore"):
            read()


def test_rows_of_an_older_release_get_the_columns_that_came_later() -> None:
    new = [example.row(1, 2.5), example.row(2, 2.25)]
    stored = rows_from_bytes(evaluations_to_bytes(new))
    older = stored.drop_columns(["decision_metric", "task_gap", "memorization_auc"])
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, older.schema) as writer:
        writer.write_batch(older)
    assert evaluations_from_bytes(sink.getvalue()) == new
    assert rows_from_bytes(sink.getvalue()).schema.equals(EVALUATION_SCHEMA)


@pytest.mark.parametrize("number", [0, 1, 7])
def test_rows_are_those_that_arrow_reads(number: int) -> None:
    content = evaluations_to_bytes(example.rows(number))
    stored = rows_from_bytes(content)
    assert pa.Table.from_batches([stored]).equals(pa.ipc.open_file(content).read_all(), check_metadata=True)
    stored.validate(full=True)


def test_decisions_are_those_of_the_rows() -> None:
    rows = [
        example.row(1, 2.5),
        example.row(2, 2.25).model_copy(update={"decision_metric": "task_gap", "task_gap": 1.5}),
    ]
    loss, value = decisions_of(rows_from_bytes(evaluations_to_bytes(rows)))
    assert loss.tolist() == [each.decision_loss for each in rows]
    assert value.tolist() == [each.decision_value for each in rows]
    assert loss.tolist() == [2.5, -1.5]
