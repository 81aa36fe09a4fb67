"""The committed study of real trials: it loads, its tables are those beside it, and it answers."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crossover.platform.analysis import StudyTables, answer, load_study, write_report
from crossover.trainers.rows import Evaluation

pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def example(real_study: Path) -> StudyTables:
    return load_study(real_study)


@pytest.mark.parametrize("name", ["trials", "evaluations"])
def test_tables_are_the_committed_ones(example: StudyTables, name: str) -> None:
    """Columns that came after it have their defaults."""
    committed, found = pq.read_table(DATA / f"crossover-cpu-{name}.parquet"), getattr(example, name)
    assert found.select(committed.schema.names).to_pylist() == committed.to_pylist()
    if name == "evaluations":
        later = set(found.schema.names) - set(committed.schema.names)
        assert {"decides", "branch_flops", "router_entropy"} <= later
        for column in later:
            assert found[column].unique().to_pylist() == [Evaluation.model_fields[column].default]


def test_both_objectives_were_given_as_many_configurations(example: StudyTables) -> None:
    pairs = answer(example).pairs
    assert len(pairs) == 8
    for pair in pairs:
        assert pair.baseline is not None
        assert pair.challenger is not None
        assert pair.baseline.num_configurations == pair.challenger.num_configurations
        assert len(pair.seeds) == 3


def test_findings_say_what_the_record_says(example: StudyTables) -> None:
    findings = (DATA.parents[1] / "docs" / "findings.md").read_text()
    for pair in answer(example).pairs:
        assert pair.test is not None
        low, high = (f"{value:+.3f}".replace("-", "−") for value in (pair.test.low, pair.test.high))
        assert f"[{low}, {high}]" in findings


def test_the_report_of_real_trials_is_written(example: StudyTables) -> None:
    page = write_report(example.path)
    assert page.stat().st_size < 10 * 2**20
    assert (example.path / "figures" / "crossing.svg").exists()
