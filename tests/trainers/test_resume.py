"""Killed, paused or interrupted anywhere, a run repeats the rows of the undisturbed one bit for bit."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loop_examples as example
import numpy as np
import pytest
import record_examples

from crossover.trainers import loop
from crossover.trainers.errors import RecordError
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import Progress, StopRequest

pytestmark = pytest.mark.integration

EVERY_STEP = {"checkpoint.interval_seconds": 1e-9}


class Killed(BaseException):
    """Stands for SIGKILL between two steps."""


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], TrialRecord]:
    """Records of runs that nothing happened to, one for each settings."""
    records: dict[str, TrialRecord] = {}

    def of(settings: dict[str, Any]) -> TrialRecord:
        key = json.dumps(settings)
        if key not in records:
            folder = tmp_path_factory.mktemp("undisturbed")
            train(example.config(tiny_corpus, **settings), example.ScriptedRun(folder))
            records[key] = TrialRecord(folder)
        return records[key]

    return of


def assert_same(record: TrialRecord, expected: TrialRecord) -> None:
    assert example.bits(record.evaluations()) == example.bits(expected.evaluations())
    for row in expected.evaluations():
        np.testing.assert_array_equal(record.window_nats(row.step), expected.window_nats(row.step))
    np.testing.assert_array_equal(record.test_window_nats(), expected.test_window_nats())
    ends = [
        end.model_dump(exclude={"wall_seconds", "eval_seconds"})
        for r in (record, expected)
        if (end := r.end()) is not None
    ]
    assert len(ends) == 2
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("settings", "instant"),
    [
        (example.AUTOREGRESSIVE, "shards"),
        pytest.param(example.AUTOREGRESSIVE, "best", marks=pytest.mark.slow),
        pytest.param(example.MASKED_DIFFUSION, "shards", marks=pytest.mark.slow),
        pytest.param(example.MASKED_DIFFUSION, "removal", marks=pytest.mark.slow),
        pytest.param(example.AUTOREGRESSIVE, "removal", marks=pytest.mark.slow),
        pytest.param(example.MASKED_DIFFUSION, "best", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_by_the_system_repeats_the_undisturbed_losses(
    settings: dict[str, Any],
    instant: str,
    tiny_corpus: Path,
    tmp_path: Path,
    undisturbed: Callable[[dict[str, Any]], TrialRecord],
) -> None:
    number = random.Random(instant).randrange(1, 8)
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, script, tiny_corpus, tmp_path, json.dumps(settings), str(number), instant]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert train(example.config(tiny_corpus, **settings), example.ScriptedRun(tmp_path)).status == "ended"
    assert_same(TrialRecord(tmp_path), undisturbed(settings))


@pytest.mark.parametrize("settings", example.OBJECTIVES, ids=lambda s: s["objective.name"])
def test_a_run_killed_again_and_again_between_steps_repeats_the_undisturbed_losses(
    settings: dict[str, Any],
    tiny_corpus: Path,
    tmp_path: Path,
    undisturbed: Callable[[dict[str, Any]], TrialRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    survived = iter([2, 3, 1, 4, 5])
    left = next(survived)
    train_step = loop.train_step

    def killing(*arguments: Any) -> None:
        nonlocal left
        if left == 0:
            left = next(survived, 10**6)
            raise Killed
        left -= 1
        train_step(*arguments)

    monkeypatch.setattr(loop, "train_step", killing)
    config, kills = example.config(tiny_corpus, **settings, **EVERY_STEP), 0
    while True:
        try:
            train(config, example.ScriptedRun(tmp_path))
            break
        except Killed:
            kills += 1
    assert kills == 5
    assert_same(TrialRecord(tmp_path), undisturbed(settings))


@pytest.mark.parametrize("until_tokens", [1, 500, 777])
def test_a_paused_run_goes_on_as_if_it_had_not_been(
    until_tokens: int, tiny_corpus: Path, tmp_path: Path, undisturbed: Callable[[dict[str, Any]], TrialRecord]
) -> None:
    config = example.config(tiny_corpus)
    leg = train(config, example.ScriptedRun(tmp_path, until_tokens))
    assert leg == LegEnd("paused", None)
    record = TrialRecord(tmp_path)
    assert record.end() is None
    rows = record.evaluations()
    assert example.bits(rows) == example.bits(undisturbed({}).evaluations()[: len(rows)])
    assert all(row.tokens_seen < until_tokens + 64 for row in rows)
    assert train(config, example.ScriptedRun(tmp_path, until_tokens)) == LegEnd("paused", None), "again: nothing to do"
    assert train(config, example.ScriptedRun(tmp_path)).status == "ended"
    assert_same(record, undisturbed({}))


def test_a_leg_that_ends_at_an_evaluation_has_its_row(
    tiny_corpus: Path, tmp_path: Path, undisturbed: Callable[[dict[str, Any]], TrialRecord]
) -> None:
    third = undisturbed({}).evaluations()[2]
    train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, third.tokens_seen))
    assert TrialRecord(tmp_path).evaluations()[-1].step == third.step


@pytest.mark.parametrize("activity", ["training", "validating", "testing"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    activity: str, tiny_corpus: Path, tmp_path: Path, undisturbed: Callable[[dict[str, Any]], TrialRecord]
) -> None:
    def interrupt(progress: Progress) -> StopRequest | None:
        at = progress.activity == activity and progress.step >= 7
        return StopRequest("interrupted", "test") if at else None

    config = example.config(tiny_corpus)
    assert train(config, example.ScriptedRun(tmp_path, answer=interrupt)) == LegEnd("interrupted", None)
    assert TrialRecord(tmp_path).end() is None
    run = example.ScriptedRun(tmp_path)
    assert train(config, run).status == "ended"
    assert run.asked[0].step >= 7, "nothing is trained again"
    assert_same(TrialRecord(tmp_path), undisturbed({}))


@pytest.mark.parametrize("damage", record_examples.DAMAGES)
def test_a_run_goes_on_from_before_a_damaged_checkpoint(
    damage: Callable[[Path], None],
    tiny_corpus: Path,
    tmp_path: Path,
    undisturbed: Callable[[dict[str, Any]], TrialRecord],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = example.config(tiny_corpus)
    train(config, example.ScriptedRun(tmp_path, until_tokens=900))
    newest = max((tmp_path / "commits").iterdir(), key=lambda path: int(path.name))
    damage(newest / "checkpoint" / "optimizer.safetensors")
    assert train(config, example.ScriptedRun(tmp_path)).status == "ended"
    assert f"commit {newest} is refused" in caplog.text
    assert_same(TrialRecord(tmp_path), undisturbed({}))


def test_a_run_without_a_valid_checkpoint_is_an_error_that_says_what_to_do(tiny_corpus: Path, tmp_path: Path) -> None:
    config = example.config(tiny_corpus)
    train(config, example.ScriptedRun(tmp_path, until_tokens=900))
    for commit in (tmp_path / "commits").iterdir():
        record_examples.truncate(commit / "checkpoint" / "model.safetensors")
    with pytest.raises(RecordError, match=r"no checkpoint under .* is valid"):
        train(config, example.ScriptedRun(tmp_path))


def test_seconds_and_flops_go_on_counting_over_legs(tiny_corpus: Path, tmp_path: Path) -> None:
    config = example.config(tiny_corpus)
    for until_tokens in (300, 600, None):
        train(config, example.ScriptedRun(tmp_path, until_tokens))
    rows = TrialRecord(tmp_path).evaluations()
    for before, after in itertools.pairwise(rows):
        for name in ("wall_seconds", "eval_seconds", "train_flops", "eval_flops", "tokens_seen"):
            assert getattr(after, name) > getattr(before, name), name
    end = TrialRecord(tmp_path).end()
    assert end is not None and end.wall_seconds > rows[-1].wall_seconds
