"""Every built-in study: its dry run, and a minute of its life on a real Ray with its own corpus."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from crossover.platform.execution.launch import DONE, NO_RESULT, run_study
from crossover.platform.study import builtin_studies, read_study
from crossover.trainers.record import TrialRecord


@pytest.mark.slow
@pytest.mark.parametrize("name", builtin_studies())
def test_dry_run_prints_trials_and_cost_and_starts_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    assert run_study(read_study(name), dry_run=True, console=Console(file=output, width=200)) == DONE
    assert "Nothing was started" in output.getvalue()
    assert "FLOPs" in output.getvalue()
    assert not list(tmp_path.iterdir())


@pytest.mark.end_to_end
@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("name", builtin_studies())
def test_a_minute_of_it_trains(name: str, tmp_path: Path) -> None:
    study = read_study(name, ("budget.wall_seconds=20", "checkpoint.poll_seconds=0.5"))
    output = io.StringIO()
    code = run_study(study, tmp_path, console=Console(file=output, width=200))
    assert code in (DONE, NO_RESULT), output.getvalue()
    records = [TrialRecord(folder) for folder in (tmp_path / study.name / "trials").iterdir()]
    assert any(record.evaluations() for record in records), output.getvalue()
    ends = [record.end() for record in records]
    assert not [end.stop_evidence for end in ends if end is not None and end.stop_reason == "failed"]
