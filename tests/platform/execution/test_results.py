from __future__ import annotations

import math
from pathlib import Path

from execution_examples import evaluation

from crossover.platform.execution.results import RecordResults
from crossover.trainers.record import RecordPaths
from crossover.trainers.record_writer import RecordWriter
from crossover.trainers.rows import Evaluation, TrialEnd


def write(study_dir: Path, trial_id: str, rows: list[Evaluation], end: TrialEnd | None = None) -> None:
    writer = RecordWriter(RecordPaths(study_dir / "trials" / trial_id))
    writer.paths.root.mkdir(parents=True)
    writer.commit(rows, None)
    if end is not None:
        writer.finish(end, None)


def test_trial_that_has_not_started_has_no_result(tmp_path: Path) -> None:
    outcome = RecordResults(tmp_path).outcome("a")
    assert (outcome.ended, outcome.value, outcome.flops) == (False, None, 0.0)


def test_value_is_the_best_finite_one_and_not_the_last(tmp_path: Path) -> None:
    rows = [evaluation(1, 2.0, 2.0), evaluation(2, 1.0, 1.0), evaluation(3, 1.5, 1.0), evaluation(4, math.nan, 1.0)]
    write(tmp_path, "a", rows)
    outcome = RecordResults(tmp_path).outcome("a")
    assert (outcome.ended, outcome.value, outcome.flops) == (False, 2.0, 4040.0)


def test_flops_of_the_test_split_are_in_the_end(tmp_path: Path) -> None:
    end = TrialEnd(stop_reason="overfit", stop_evidence="it rose", train_flops=4000.0, eval_flops=500.0)
    write(tmp_path, "a", [evaluation(4, 1.0, 1.0)], end)
    outcome = RecordResults(tmp_path).outcome("a")
    assert (outcome.ended, outcome.value, outcome.flops) == (True, 2.0, 4500.0)


def test_trial_that_diverged_at_once_ended_without_a_value(tmp_path: Path) -> None:
    write(tmp_path, "a", [evaluation(1, math.nan, math.nan)], TrialEnd(stop_reason="diverged", stop_evidence="NaN"))
    outcome = RecordResults(tmp_path).outcome("a")
    assert (outcome.ended, outcome.value) == (True, None)


def test_closed_trial_keeps_what_its_rows_say(tmp_path: Path) -> None:
    write(tmp_path, "a", [evaluation(1, 1.0, 1.0), evaluation(2, 3.0, 1.0)])
    results = RecordResults(tmp_path)
    results.close("a", "failed", "it raised")
    end = results.record("a").end()
    assert end is not None
    assert (end.stop_reason, end.stop_evidence) == ("failed", "it raised")
    assert (end.best_step, end.best_bits_per_byte, end.final_bits_per_byte, end.tokens_seen) == (1, 2.0, 6.0, 200)
    assert end.test_bits_per_byte is None


def test_trial_that_never_wrote_a_row_can_be_closed(tmp_path: Path) -> None:
    results = RecordResults(tmp_path)
    results.close("a", "failed", "it raised at once")
    assert results.outcome("a").ended
    end = results.record("a").end()
    assert end is not None
    assert end.best_bits_per_byte is None
