from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from loop_examples import ScriptedRun, bits, config

from crossover.trainers.errors import ConfigError, CrossoverError
from crossover.trainers.identity import trial_identity
from crossover.trainers.loop import train
from crossover.trainers.measures import Measured
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.tasks.multiple_choice import TaskScores

pytestmark = pytest.mark.integration


@pytest.fixture
def task(tmp_path: Path) -> Path:
    lines = [
        {"context": "the", "endings": [right, wrong], "label": 0}
        for right, wrong in (("model", "zzzzz"), ("data", "\x01\x02\x03"), ("noise", "QQQQQ"), ("mask of", "&&&&&&"))
    ]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "task.jsonl"


def scores(gaps: list[float], name: str = "one", accuracy: float = 0.5) -> TaskScores:
    gap_Q = np.array(gaps)
    se = float(gap_Q.std(ddof=1)) / len(gaps) ** 0.5
    return TaskScores(name, len(gaps), accuracy, 0.1, 0.0, accuracy, 0.1, float(gap_Q.mean()), se, 0.2, gap_Q, 8)


@pytest.mark.parametrize("objective", ["autoregressive", "masked_diffusion"])
def test_tasks_are_columns_of_each_evaluation(tiny_corpus: Path, tmp_path: Path, task: Path, objective: str) -> None:
    run = ScriptedRun(tmp_path / "run")
    train(config(tiny_corpus, objective__name=objective, evaluation__tasks=str(task)), run)
    rows = TrialRecord(run.directory).evaluations()
    assert all(row.task_gap is not None and row.task_accuracy is not None for row in rows)
    assert rows[-1].task_gap > rows[0].task_gap  # type: ignore[operator]
    assert rows[-1].task_accuracy == 1.0
    (alone,) = json.loads(rows[-1].task_scores or "")
    assert alone["name"] == "task" and alone["gap"] == rows[-1].task_gap
    assert (rows[-1].task_gap_se_mc == 0) == (objective == "autoregressive")
    best = max(row.task_gap for row in rows[:-1] if row.task_gap is not None)
    fall = rows[-1].task_gap_fall
    assert fall == pytest.approx(max(best - rows[-1].task_gap, 0.0))  # type: ignore[operator]
    plain = ScriptedRun(tmp_path / "plain")
    train(config(tiny_corpus, objective__name=objective), plain)
    without = TrialRecord(plain.directory).evaluations()
    assert [row.val_loss for row in without] == [row.val_loss for row in rows]  # measuring disturbs nothing
    assert rows[-1].eval_flops > without[-1].eval_flops
    assert without[-1].task_gap is None and without[-1].memorization_auc is None


def test_an_interrupted_run_repeats_the_undisturbed_measures(tiny_corpus: Path, tmp_path: Path, task: Path) -> None:
    settings = config(tiny_corpus, evaluation__tasks=str(task), evaluation__decision_metric="task_gap")
    whole = ScriptedRun(tmp_path / "whole")
    train(settings, whole)

    def stop(progress: Progress) -> StopRequest | None:
        return StopRequest("interrupted", "test") if progress.step in (5, 11) and progress.step not in seen else None

    seen: set[int] = set()
    for _ in range(3):
        run = ScriptedRun(tmp_path / "parts", answer=stop)
        train(settings, run)
        seen.update({5} if not seen else {5, 11})
    expected, found = (TrialRecord(tmp_path / name).evaluations() for name in ("whole", "parts"))
    assert bits(found) == bits(expected)


def test_the_best_by_the_gap_is_kept(tiny_corpus: Path, tmp_path: Path, task: Path) -> None:
    settings = config(tiny_corpus, evaluation__tasks=str(task), evaluation__decision_metric="task_gap")
    train(settings, ScriptedRun(tmp_path / "run"))
    record = TrialRecord(tmp_path / "run")
    best = max(record.evaluations(), key=lambda row: row.task_gap or -1e9)
    assert record.best_step() == best.step
    assert best.decision_loss == best.decision_value == -(best.task_gap or 0)


def test_a_fall_is_paired_over_questions() -> None:
    before = [4.0, 5.0, 9.0, 2.0]
    columns = Measured((scores([3.0, 4.5, 8.0, 1.5]),)).columns(before)
    difference = np.array([1.0, 0.5, 1.0, 0.5])
    assert columns["task_gap_fall"] == pytest.approx(0.75)
    assert columns["task_gap_fall_se"] == pytest.approx(difference.std(ddof=1) / 2)
    assert Measured((scores([5.0, 6.0, 9.0, 2.5]),)).columns(before)["task_gap_fall"] == 0.0
    assert Measured((scores([1.0, 2.0]),)).columns(None)["task_gap_fall"] == 0.0
    assert Measured().columns(None) == {}


def test_each_question_counts_alike_over_tasks() -> None:
    columns = Measured((scores([1.0, 3.0], accuracy=1.0), scores([8.0] * 6, "two", 0.0))).columns(None)
    assert columns["task_gap"] == pytest.approx((2 * 2 + 6 * 8) / 8)
    assert columns["task_accuracy"] == pytest.approx(2 / 8)
    assert columns["task_gap_se_mc"] == pytest.approx(np.hypot(2 * 0.2, 6 * 0.2) / 8)
    assert [one["name"] for one in json.loads(columns["task_scores"])] == ["one", "two"]


@pytest.mark.parametrize("settings", [{"evaluation__decision_metric": "task_gap"}, {"stopping__rule": "task_gap"}])
def test_decisions_on_tasks_need_tasks(tiny_corpus: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"is task_gap, and no task is asked: set evaluation\.tasks"):
        train(config(tiny_corpus, **settings), ScriptedRun(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_broken_task_stops_a_run_before_it_begins(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(CrossoverError, match="line 1: no JSON"):
        train(config(tiny_corpus, evaluation__tasks=str(tmp_path / "bad.jsonl")), ScriptedRun(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_identity_covers_what_a_task_asks_and_not_where_it_lies(tiny_corpus: Path, task: Path) -> None:
    copy = task.with_name("copy.jsonl")
    copy.write_bytes(task.read_bytes())

    def identity(*paths: Path) -> str:
        return trial_identity(config(tiny_corpus, evaluation__tasks=",".join(map(str, paths)) or None), "corpus")

    assert identity(task) == identity(copy) != identity()
    copy.write_text(copy.read_text().replace("model", "other"))
    assert identity(copy) != identity(task)
