from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest
from synthetic_study import AR, MDM, SyntheticStudy

from crossover.platform.analysis import load_study, write_table
from crossover.platform.analysis.status import suggestions
from crossover.platform.execution.decisions import (
    AttemptStarted,
    Decision,
    LegEnded,
    LegStarted,
    StudyFinished,
    Suggested,
)
from crossover.trainers.errors import CrossoverError

DESIGN_TRIALS = set(
    """trial_id config_hash objective seed stratum status stop_reason stop_evidence num_params_total num_params_active
    num_params_with_embeddings unique_tokens best_bits_per_byte best_bits_per_byte_se best_epoch final_bits_per_byte
    test_bits_per_byte test_bits_per_byte_se tokens_seen train_flops eval_flops wall_seconds""".split()  # noqa: SIM905
)
DESIGN_EVALUATIONS = set(
    """trial_id epoch tokens_seen unique_tokens step train_flops train_flops_6nd wall_seconds train_loss val_loss
    val_loss_se val_loss_se_mc val_bits_per_byte val_bits_per_byte_se rise_over_best rise_over_best_se raw_val_loss
    learning_rate grad_norm tokens_per_second mfu peak_memory_bytes branch""".split()  # noqa: SIM905
)


def test_tables_have_the_columns_that_notebooks_rely_on(study_folder: Path) -> None:
    tables = load_study(study_folder)
    assert set(tables.trials.column_names) >= DESIGN_TRIALS
    assert set(tables.evaluations.column_names) >= DESIGN_EVALUATIONS
    assert {"recipe", "objective.name", "optimizer.learning_rate", "regularization.dropout"} <= set(
        tables.trials.column_names
    )
    for table in (tables.trials, tables.evaluations):
        assert table.schema.metadata[b"schema_version"] == b"1"


def test_a_study_shown_in_a_notebook_is_one_line(study_folder: Path) -> None:
    evaluations = load_study(study_folder).evaluations.num_rows
    assert repr(load_study(study_folder)) == f"<study synthetic: 16 trials, {evaluations} evaluations; {study_folder}>"


def test_every_trial_and_every_evaluation_is_there_once(study_folder: Path) -> None:
    tables = load_study(study_folder)
    ids = tables.trials["trial_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 16
    assert tables.evaluations.num_rows == sum(len(record.evaluations()) for record in tables.records.values())


def test_a_trials_best_is_the_lowest_of_its_evaluations(study_folder: Path) -> None:
    tables = load_study(study_folder)
    lowest = tables.evaluations.group_by("trial_id").aggregate([("val_bits_per_byte", "min")])
    expected = dict(zip(lowest["trial_id"].to_pylist(), lowest["val_bits_per_byte_min"].to_pylist(), strict=True))
    found = dict(
        zip(tables.trials["trial_id"].to_pylist(), tables.trials["best_bits_per_byte"].to_pylist(), strict=True)
    )
    assert found == pytest.approx(expected)


def test_what_is_missing_is_null_and_not_zero(study_folder: Path) -> None:
    tables = load_study(study_folder)
    shared = tables.trials.filter(pc.equal(tables.trials["recipe"], "shared"))
    assert shared["optimizer.learning_rate"].null_count == shared.num_rows == 6
    assert tables.evaluations["mfu"].null_count == tables.evaluations.num_rows
    first = tables.evaluations.filter(pc.equal(tables.evaluations["epoch"], 1.0))
    assert first["train_loss"].null_count == first.num_rows


def test_a_trial_that_was_only_suggested_waits_with_nothing_known(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, num_tuned=2, finished=False).write(tmp_path / "s")
    trials = load_study(folder).trials
    (waiting,) = trials.filter(pc.equal(trials["status"], "waiting")).to_pylist()
    assert waiting["objective"] == MDM and waiting["optimizer.learning_rate"] is not None
    assert waiting["best_bits_per_byte"] is waiting["seed"] is waiting["tokens_seen"] is None


def test_a_trial_without_end_shows_where_it_stands(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    (end,) = folder.glob("trials/*/end.json")
    before = load_study(folder).trials.to_pylist()[0]
    end.unlink()
    after = load_study(folder).trials.to_pylist()[0]
    assert after["stop_reason"] is None and after["test_bits_per_byte"] is None
    for name in ("best_bits_per_byte", "best_epoch", "final_bits_per_byte", "tokens_seen", "train_flops"):
        assert after[name] == pytest.approx(before[name])


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    study = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(MDM,), diverged_repeat=0)
    tables = load_study(study.write(tmp_path / "s"))
    row = tables.trials.to_pylist()[0]
    assert row["stop_reason"] == "diverged" and row["status"] == "done"
    assert np.isfinite(row["best_bits_per_byte"]) and np.isnan(row["final_bits_per_byte"])


def suggested(trial_id: str = "t") -> Suggested:
    return Suggested(
        trial_id=trial_id, number=0, stratum={}, stratum_label="all", settings={}, repeat=0, config_hash="c",
        purpose="search",
    )  # fmt: skip


ATTEMPT = AttemptStarted(pid=1, host="h", versions={}, resumed=False)
STARTED = LegStarted(trial_id="t", leg=1)


@pytest.mark.parametrize(
    ("lines", "alive", "expected"),
    [
        ([], True, "waiting"),
        ([STARTED], True, "running"),
        ([STARTED], False, "paused"),
        ([STARTED, ATTEMPT], True, "paused"),
        ([STARTED, StudyFinished(reason="all done")], True, "paused"),
        ([STARTED, LegEnded(trial_id="t", leg=1, status="interrupted")], True, "paused"),
        ([STARTED, LegEnded(trial_id="t", leg=1, status="failed", error="out of memory")], True, "failed"),
        ([STARTED, LegEnded(trial_id="t", leg=1, status="failed", error="x"), STARTED], True, "running"),
        ([STARTED, LegEnded(trial_id="t", leg=1, status="ended")], True, "done"),
    ],
)
def test_the_drivers_log_tells_the_status(lines: list[Decision], alive: bool, expected: str) -> None:
    (found,) = suggestions([ATTEMPT, suggested(), *lines], driver_alive=alive)
    assert found.status == expected


def test_a_failed_leg_leaves_its_error(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    (end,) = folder.glob("trials/*/end.json")
    end.unlink()
    (log,) = folder.glob("decisions/*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "leg_ended":
            line |= {"status": "failed", "error": "out of memory"}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = load_study(folder).trials.to_pylist()[0]
    assert (row["status"], row["stop_reason"], row["stop_evidence"]) == ("failed", "failed", "out of memory")


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CrossoverError, match="no study's folder") as caught:
            load_study(folder)
        assert str(folder) in str(caught.value)


def test_a_study_without_trials_says_so(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    for log in folder.glob("decisions/*"):
        log.unlink()
    with pytest.raises(CrossoverError, match="no trial yet"):
        load_study(folder)


@pytest.mark.parametrize("content", ['{"schema_version": 99}', '{"schema_version": null}', "{}"])
def test_a_record_of_another_version_is_refused(tmp_path: Path, content: str) -> None:
    folder = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    (facts,) = folder.glob("trials/*/trial.json")
    facts.write_text(content)
    with pytest.raises(CrossoverError, match="schema_version"):
        load_study(folder)


def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = SyntheticStudy(num_seeds=1, recipes=("shared",), objectives=(AR,)).write(tmp_path / "s")
    (facts,) = folder.glob("trials/*/trial.json")
    facts.write_text("{")
    with pytest.raises(CrossoverError, match=r"trial\.json"):
        load_study(folder)


@pytest.mark.parametrize("name", ["trials", "evaluations"])
def test_every_format_holds_every_row(study_folder: Path, tmp_path: Path, name: str) -> None:
    table: pa.Table = getattr(load_study(study_folder), name)
    for kind in ("csv", "parquet", "json", "table"):
        write_table(table, kind, tmp_path / kind)
    assert pa_parquet.read_table(tmp_path / "parquet").equals(table)
    assert pa_parquet.read_schema(tmp_path / "parquet").metadata[b"schema_version"] == b"1"
    read = pa_csv.read_csv(tmp_path / "csv")
    assert (read.num_rows, read.column_names) == (table.num_rows, table.column_names)
    assert json.loads((tmp_path / "json").read_text()) == table.to_pylist()
    assert len((tmp_path / "table").read_text().splitlines()) == table.num_rows + 1


def test_json_has_null_for_a_loss_that_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(pa.table({"stop_reason": ["diverged"], "final": [float("nan")]}), "json")
    assert json.loads(capsys.readouterr().out) == [{"stop_reason": "diverged", "final": None}]


def test_the_terminal_table_does_not_interpret_what_users_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(pa.table({"stop_reason": ["[red]x[/red]"], "stratum": ["a=[b]"]}), "table")
    assert "[red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "where", "message"),
    [("xml", None, "choose one of"), ("parquet", None, "--output"), ("csv", "absent/x.csv", "cannot write")],
)
def test_a_table_that_cannot_be_written_says_why(tmp_path: Path, kind: str, where: str | None, message: str) -> None:
    with pytest.raises(CrossoverError, match=message):
        write_table(pa.table({"stop_reason": ["x"]}), kind, None if where is None else tmp_path / where)


def test_reading_tables_loads_no_figure_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, crossover.platform.analysis as a; a.load_study; a.write_table; "
        "print([m for m in ('matplotlib', 'plotly', 'torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert io.StringIO(done.stdout).read().strip() == "[]"


def test_columns_of_a_trial_are_those_of_its_rows_and_what_is_missing_is_no_number(study_folder: Path) -> None:
    for trial in load_study(study_folder).files.values():
        for name in ("epoch", "val_bits_per_byte", "train_loss", "task_gap"):
            rows = [getattr(row, name) for row in trial.evaluations]
            expected = [float("nan") if value is None else value for value in rows]
            assert trial.values(name).tolist() == pytest.approx(expected, nan_ok=True)
        assert replace(trial, rows=None).values("epoch").tolist() == []
