"""Studies on a real Ray, with the real training loop on a tiny corpus."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from crossover.platform.execution.decisions import (
    AttemptStarted,
    LegEnded,
    LegStarted,
    StopRequested,
    StratumStopped,
    StudyFinished,
    Suggested,
    attempts,
    read_decisions,
)
from crossover.platform.execution.launch import DONE, INTERRUPTED, NO_RESULT, run_study
from crossover.platform.execution.results import RecordResults
from crossover.platform.execution.status import study_status
from crossover.platform.search.budget import leg_seconds
from crossover.trainers.config import TrialConfig
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import Progress, Run, StopRequest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE_AT_A_TIME = {"cpus_per_worker": 2}  # one actor to start instead of two
MakeStudy = Callable[..., Any]
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}


def quietly(study: Any, storage: Path, **arguments: Any) -> tuple[int, str]:
    output = io.StringIO()
    code = run_study(study, storage, console=Console(file=output, width=200), **arguments)
    return code, output.getvalue()


def made(study_dir: Path) -> dict[str, Suggested]:
    return {line.trial_id: line for line in read_decisions(study_dir) if isinstance(line, Suggested)}


def record(study_dir: Path, trial_id: str) -> TrialRecord:
    return TrialRecord(study_dir / "trials" / trial_id)


def rows(study_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every trial, without what the clock and the machine say."""
    return {
        trial_id: [row.model_dump(exclude=TIMES) for row in record(study_dir, trial_id).evaluations()]
        for trial_id in made(study_dir)
    }


def reasons(study_dir: Path) -> list[str]:
    ends = [record(study_dir, trial_id).end() for trial_id in made(study_dir)]
    return sorted("none" if end is None else end.stop_reason for end in ends)


def test_study_runs_to_its_end_and_is_not_run_again(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(search__final_repeats=2)
    code, output = quietly(study, tmp_path)
    study_dir = tmp_path / "tiny"
    assert code == DONE, output
    assert reasons(study_dir) == ["completed"] * 6
    assert sorted((s.stratum_label, s.number, s.repeat, s.purpose) for s in made(study_dir).values())[::3] == [
        ("objective=autoregressive", 0, 0, "search"),
        ("objective=masked_diffusion", 0, 0, "search"),
    ]
    decisions = read_decisions(study_dir)
    assert isinstance(decisions[0], AttemptStarted)
    assert isinstance(decisions[-1], StudyFinished)
    assert sum(isinstance(line, LegStarted) for line in decisions) == 6
    assert [line.status for line in decisions if isinstance(line, LegEnded)] == ["ended"] * 6
    assert all("validation" in output for _ in decisions)

    before = (study_dir / "study.yaml").read_text(), len(decisions)
    code, output = quietly(study, tmp_path)
    assert (code, "is finished" in output) == (DONE, True)
    assert ((study_dir / "study.yaml").read_text(), len(read_decisions(study_dir))) == before


@pytest.mark.slow
def test_results_can_be_read_with_rays_own_result_grid(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(search__trials=1, resources=ONE_AT_A_TIME)
    assert quietly(study, tmp_path)[0] == DONE
    study_dir = tmp_path / "tiny"
    grid = ray.tune.ExperimentAnalysis(str(study_dir / "ray" / "0001"))
    frame = grid.dataframe()
    assert set(frame["trial"]) == set(made(study_dir))
    for trial_id, last in frame.set_index("trial").iterrows():
        end = record(study_dir, str(trial_id)).end()
        assert end is not None
        assert last["test_bits_per_byte"] == pytest.approx(end.test_bits_per_byte)


@pytest.mark.slow
def test_trial_that_always_raises_is_tried_twice_and_the_others_run(tiny_study: MakeStudy, tmp_path: Path) -> None:
    def breaks_mdm(config: TrialConfig, run: Run) -> LegEnd:
        if config.objective.name == "masked_diffusion":
            raise ValueError("this objective is broken")
        return train(config, run)

    study = tiny_study(search__trials=1, resources=ONE_AT_A_TIME)
    code, output = quietly(study, tmp_path, train=breaks_mdm)
    study_dir = tmp_path / "tiny"
    assert code == DONE, output
    assert "1 of 2 trials failed" in output
    broken = next(i for i, line in made(study_dir).items() if "masked" in line.stratum_label)
    end = record(study_dir, broken).end()
    assert end is not None
    assert (end.stop_reason, "this objective is broken" in end.stop_evidence) == ("failed", True)
    legs = [line for line in read_decisions(study_dir) if isinstance(line, LegEnded) and line.trial_id == broken]
    assert [leg.status for leg in legs] == ["failed", "failed"]
    assert quietly(study, tmp_path)[0] == DONE
    assert len(made(study_dir)) == 2


@pytest.mark.slow
def test_worker_that_is_killed_goes_on_from_its_checkpoint(tiny_study: MakeStudy, tmp_path: Path) -> None:
    marker = tmp_path / "killed"

    class KilledOnce:
        def __init__(self, run: Run) -> None:
            self.directory, self.until_tokens, self.should_stop = run.directory, run.until_tokens, run.should_stop
            self.published = run.published
            self.run = run

        def evaluated(self, evaluation: Any) -> None:
            self.run.evaluated(evaluation)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    study = tiny_study(search__trials=1, resources=ONE_AT_A_TIME)
    code, output = quietly(study, tmp_path / "a", train=lambda config, run: train(config, KilledOnce(run)))
    assert code == DONE, output
    assert "worker died" in output
    assert reasons(tmp_path / "a/tiny") == ["completed", "completed"]
    assert quietly(study, tmp_path / "b")[0] == DONE
    assert rows(tmp_path / "a/tiny") == rows(tmp_path / "b/tiny")


@pytest.mark.slow
def test_study_in_which_everything_fails_has_no_result(tiny_study: MakeStudy, tmp_path: Path) -> None:
    def breaks(config: TrialConfig, run: Run) -> LegEnd:
        raise ValueError("nothing works")

    code, output = quietly(tiny_study(search__trials=1, resources=ONE_AT_A_TIME), tmp_path, train=breaks)
    assert code == NO_RESULT
    assert "no trial has a usable result" in output
    assert reasons(tmp_path / "tiny") == ["failed", "failed"]


@pytest.mark.slow
def test_spent_budget_ends_what_runs_and_starts_nothing_new(tiny_study: MakeStudy, tmp_path: Path) -> None:
    polls = tmp_path / "polls"
    polls.mkdir()

    class Noted:
        """Writes down what the trial has spent at each poll, and what it needs to end."""

        def __init__(self, run: Run) -> None:
            self.directory, self.until_tokens, self.evaluated = run.directory, run.until_tokens, run.evaluated
            self.published = run.published
            self.run = run

        def should_stop(self, progress: Progress) -> StopRequest | None:
            with (polls / self.directory.name).open("a") as file:
                file.write(f"{progress.flops}\n")
            return self.run.should_stop(progress)

    limit = 4.5e10
    study = tiny_study(
        fixed__schedule__epochs=150,
        fixed__evaluation__ratio=50.0,
        search__trials=4,
        budget={"flops": limit, "split": "shared"},
    )
    code, output = quietly(study, tmp_path, train=lambda config, run: train(config, Noted(run)))
    study_dir = tmp_path / "tiny"
    assert code == DONE, output
    assert set(reasons(study_dir)) - {"completed"} == {"budget"}  # the first may end before the second has started
    stops = [line for line in read_decisions(study_dir) if isinstance(line, StopRequested)]
    assert [(stop.trial_id, stop.reason) for stop in stops] == [(None, "budget")]
    assert "budget.flops" in stops[0].evidence
    outcomes = [RecordResults(study_dir).outcome(trial_id) for trial_id in made(study_dir)]
    spent = sum(outcome.flops for outcome in outcomes)
    told = [[float(line) for line in path.read_text().splitlines()] for path in polls.iterdir()]
    an_interval_each = sum(max(b - a for a, b in pairwise(trial)) for trial in told)
    assert len(told) == len(outcomes) < 4
    assert limit <= spent <= limit + an_interval_each
    assert an_interval_each < 0.2 * limit, "else it would have shown nothing"
    code, output = quietly(study, tmp_path)
    assert (code, "no budget left" in output) == (DONE, True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("wall_seconds", 10.0), ("device_hours", 12 / 3600)])
def test_spent_time_ends_what_runs_and_starts_nothing_new(
    tiny_study: MakeStudy, tmp_path: Path, name: str, limit: float
) -> None:
    study = tiny_study(fixed__schedule__epochs=3000, stopping={"rule": "none"}, budget={name: limit})
    begin = time.monotonic()
    code, output = quietly(study, tmp_path)
    took = time.monotonic() - begin
    study_dir = tmp_path / "tiny"
    assert code == DONE, output
    assert set(reasons(study_dir)) == {"budget"}
    (stop,) = [line for line in read_decisions(study_dir) if isinstance(line, StopRequested)]
    assert f"budget.{name}" in stop.evidence
    used = leg_seconds(attempts(study_dir)) / 3600 if name == "device_hours" else took
    assert limit <= used, "it was ended before it had spent what it may"
    assert "no budget left" in quietly(study, tmp_path)[1]


@pytest.mark.slow
def test_interrupted_study_goes_on_and_ends_with_the_same_rows(tiny_study: MakeStudy, tmp_path: Path) -> None:
    study = tiny_study(
        search__trials=2,
        fixed__schedule__epochs=60,
        fixed__checkpoint__min_interval_seconds=0,  # the first commit long before the trial's end
        resources=ONE_AT_A_TIME,
    )
    study_dir = tmp_path / "a/tiny"

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(path.exists() for path in study_dir.glob("trials/*/commits/0")):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, output = quietly(study, tmp_path / "a")
    thread.join()
    assert code == INTERRUPTED, output
    assert "none" in reasons(study_dir)
    assert "interrupted" in [line.status for line in read_decisions(study_dir) if isinstance(line, LegEnded)]
    status = Console(file=io.StringIO(), width=200)
    status.print(study_status(study_dir))
    assert "not running" in status.file.getvalue()  # type: ignore[attr-defined]

    code, output = quietly(study, tmp_path / "a")
    assert code == DONE, output
    assert "goes on" in output
    assert quietly(study, tmp_path / "b")[0] == DONE
    assert reasons(study_dir) == ["completed"] * 4
    assert rows(study_dir) == rows(tmp_path / "b/tiny")


@pytest.mark.slow
def test_stratum_that_spent_its_share_ends_and_the_other_is_trained_on(tiny_study: MakeStudy, tmp_path: Path) -> None:
    shares = {"objective=autoregressive": 0.09, "objective=masked_diffusion": 0.91}
    study = tiny_study(
        fixed__schedule__epochs=20, search__trials=2, budget={"flops": 1e11, "split": shares}, stopping={"rule": "none"}
    )
    code, output = quietly(study, tmp_path)
    assert code == DONE, output
    study_dir = tmp_path / "tiny"
    ends = [(line.stratum_label, record(study_dir, trial_id).end()) for trial_id, line in made(study_dir).items()]
    found = [(label, end and end.stop_reason, end and "of budget.flops" in end.stop_evidence) for label, end in ends]
    assert sorted(found) == [
        ("objective=autoregressive", "budget", True),
        ("objective=autoregressive", "completed", False),
        ("objective=masked_diffusion", "completed", False),
        ("objective=masked_diffusion", "completed", False),
    ]
    spent = [line.stratum_label for line in read_decisions(study_dir) if isinstance(line, StratumStopped)]
    assert spent == ["objective=autoregressive"]
