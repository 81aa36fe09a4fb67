"""Cohort halving of trials of two workers on a real Ray: a promotion is a new Ray Train run from the checkpoint."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crossover.platform.analysis import load_study
from crossover.platform.execution.decisions import LegEnded, RungDecided, read_decisions
from crossover.platform.execution.launch import DONE, run_study

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.timeout(900),
]
MakeStudy = Callable[..., Any]


def halved(tiny_study: MakeStudy, storage: Path, workers: int) -> Path:
    study = tiny_study(
        axes={
            "objective.name": {"choice": ["autoregressive"], "role": "scientific"},
            "optimizer.learning_rate": {"choice": [1e-4, 1e-2], "role": "nuisance"},
        },
        fixed__schedule__epochs=4,
        stopping={"rule": "none"},
        search={"sampler": "grid", "scheduler": "cohort_halving", "rungs": {"first_epoch": 1, "eta": 2}},
        resources={"workers": workers},
    )
    output = io.StringIO()
    assert run_study(study, storage, console=Console(file=output, width=200)) == DONE, output.getvalue()
    return storage / "tiny"


def decided(study_dir: Path) -> list[tuple[str, int, str]]:
    lines = (line for line in read_decisions(study_dir) if isinstance(line, RungDecided))
    return sorted((one.trial_id, one.rung, one.action) for line in lines for one in line.decisions)


def test_two_workers_halve_as_one_does(tiny_study: MakeStudy, tmp_path: Path) -> None:
    two, one = (halved(tiny_study, tmp_path / str(workers), workers) for workers in (2, 1))
    assert decided(two) == decided(one)
    assert Counter(line.status for line in read_decisions(two) if isinstance(line, LegEnded)) == {
        "paused": 2,
        "ended": 1,
    }
    tables = [load_study(folder).trials.sort_by("trial_id").to_pylist() for folder in (two, one)]
    for trial, other in zip(*tables, strict=True):
        assert (trial["world_size"], other["world_size"]) == (2, 1)
        assert (trial["trial_id"], trial["stop_reason"]) == (other["trial_id"], other["stop_reason"])
        assert trial["best_bits_per_byte"] == pytest.approx(other["best_bits_per_byte"], rel=1e-4)
    assert Counter(trial["stop_reason"] for trial in tables[0]) == {"pruned": 1, "completed": 1}
