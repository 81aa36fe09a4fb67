from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crossover.platform.execution.dry_run import stratum_costs, trial_cost
from crossover.platform.execution.dry_run_limits import limit_remarks, record_bytes
from crossover.platform.execution.launch import DONE, run_study
from crossover.platform.search.study_plan import first_settings
from crossover.trainers.loop import train
from crossover.trainers.run import AloneRun
from crossover.trainers.trial_setup import open_setup

pytestmark = pytest.mark.integration

MakeStudy = Callable[..., Any]


def test_estimated_flops_are_those_that_a_whole_run_spends(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(stopping={"rule": "none"}, fixed__schedule__epochs=2.3)
    for stratum in study.strata():
        config = study.trial_config(stratum, first_settings(study, stratum))
        cost = trial_cost(open_setup(config), flops_per_second=1e9)
        end = train(config, AloneRun(tmp_path / stratum.label)).end
        assert end is not None
        assert cost.train_flops == pytest.approx(end.train_flops, rel=0.01)
        assert cost.eval_flops == pytest.approx(end.eval_flops, rel=1e-6)
        assert cost.seconds == pytest.approx(cost.flops / 1e9)


def test_repeats_and_confirmations_are_counted(tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossover.platform.execution.dry_run._TIMED_SECONDS", 0.0)
    monkeypatch.setattr("crossover.platform.execution.dry_run.measured_flops_per_second", lambda setup: 1e9)
    once = stratum_costs(tiny_study(search__trials=3))
    costs = stratum_costs(tiny_study(search__trials=3, search__repeats=2, search__final_repeats=5))
    assert [(cost.num_configurations, cost.num_trials) for cost in costs] == [(3, 3 * 2 + 3)] * 2
    assert [cost.flops for cost in costs] == pytest.approx([3 * cost.flops for cost in once])


def test_dry_run_prints_every_stratum_and_starts_nothing(tiny_study: MakeStudy, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    study = tiny_study(budget={"flops": 2e9, "wall_seconds": 600.0})
    assert run_study(study, tmp_path / "runs", dry_run=True, console=console) == DONE
    output = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in (
        "objective=autoregressive",
        "objective=masked_diffusion",
        "% of it",
        "10 min",
        "Nothing was started",
    ):
        assert expected in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("epochs", "warned"), [(1, True), (4000, False)])
def test_evaluation_that_costs_more_than_its_share_is_warned_of_with_its_parts(
    epochs: int, warned: bool, tiny_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossover.platform.execution.dry_run.measured_flops_per_second", lambda setup: 1e9)
    study = tiny_study(fixed__schedule__epochs=epochs, fixed__evaluation__test_windows=200)
    costs = stratum_costs(study)
    assert all((cost.evaluation_share > 0.15) == warned for cost in costs)
    console = Console(file=io.StringIO(), width=200)
    run_study(study, dry_run=True, console=console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    for cost in costs:
        assert f" {cost.evaluation_share:.0%} " in output
    dearest = max(costs, key=lambda cost: cost.evaluation_share)
    shares = f"{dearest.label}: {dearest.validation_share:.1%} for validation, {dearest.test_share:.1%} for test"
    assert (shares in output) == warned
    assert ("evaluation.ratio" in output) == warned


def test_disk_that_is_predicted_is_what_a_whole_trial_takes(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(stopping={"rule": "none"}, fixed__evaluation__ratio=1.1, fixed__schedule__epochs=6)
    config = study.trial_config(study.strata()[0], first_settings(study, study.strata()[0]))
    train(config, AloneRun(tmp_path))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    rows = sum(path.stat().st_size for path in files if path.suffix != ".safetensors")
    assert record_bytes(open_setup(config)) == pytest.approx(rows, rel=0.25)


@pytest.mark.parametrize(
    ("budget", "checkpoints", "expected"),
    [
        ({"trials": 5}, {}, ["budget.trials = 5: 4 trials are made."]),
        ({"device_hours": 1000.0}, {}, ["budget.device_hours = 1000 pays for all of it"]),
        ({"device_hours": 1e-9}, {}, ["budget.device_hours = 1e-09 pays for 0% of it"]),
        ({"wall_seconds": 600.0}, {}, ["ends it after 10 min, which pays for all of it."]),
        ({}, {}, ["Disk: up to", "of checkpoints", "of rows and losses."]),
        ({}, {"max_bytes": "100MB"}, ["checkpoints.max_bytes = 100 MB keeps them to"]),
        ({}, {"max_bytes": "1MB"}, ["checkpoints.max_bytes = 1 MB will be refused,"]),
    ],
)
def test_every_limit_is_predicted(
    tiny_study: MakeStudy, budget: dict[str, Any], checkpoints: dict[str, Any], expected: list[str]
) -> None:
    study = tiny_study(budget=budget, checkpoints=checkpoints)
    lines = list(limit_remarks(study, flops=1e9, seconds=60.0, num_trials=4, record_bytes=1e5))
    assert all(any(text in line for line in lines) for text in expected), lines
