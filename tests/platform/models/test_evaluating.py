from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

Call = Callable[..., Any]


@pytest.fixture
def task(counting_corpus: Path, tmp_path: Path, crossover: Call) -> Path:
    done = crossover(
        *("data", "make-task", counting_corpus, "--output", tmp_path / "count.jsonl", "--questions", 12),
        *("--context-characters", 16, "--ending-characters", 8, "--endings", 3),
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == f"12 questions of 3 endings: {tmp_path}/count.jsonl\n"
    return tmp_path / "count.jsonl"


def test_a_model_that_counts_knows_what_follows(
    counting_ar: Path, counting_mdm: Path, task: Path, crossover: Call
) -> None:
    for folder, is_bound in ((counting_ar, False), (counting_mdm, True)):
        done = crossover("evaluate", folder, "--tasks", task, "--masks", 8, "--json")
        assert (done.code, done.err) == (0, "")
        found = json.loads(done.out)
        assert found["is_bound"] is is_bound
        assert found["num_masks"] == (8 if is_bound else None)
        (scores,) = found["tasks"]
        assert (scores["name"], scores["num_questions"]) == ("count", 12)
        assert scores["accuracy"] > 0.5
        assert scores["gap"] > 0
        assert (scores["gap_se_mc"] > 0) is is_bound


def test_several_files_are_a_table(counting_ar: Path, task: Path, crossover: Call) -> None:
    copy = task.with_name("again.jsonl")
    copy.write_bytes(task.read_bytes())
    done = crossover("evaluate", counting_ar, "--tasks", task, copy)
    assert (done.code, done.err) == (0, "")
    header, first, second, last = done.out.splitlines()
    assert header.split() == ["task", "questions", "accuracy", "by", "length", "gap,", "nats", "its", "masks'", "error"]
    assert first.removeprefix("count").split() == second.removeprefix("again").split()
    assert "exact" in first
    assert last.startswith("autoregressive, exact likelihoods: 24 questions in ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no tasks file was given"),
        ("{}\n", "line 1: no text in `context`"),
        ('{"context": "a", "endings": ["b", "c"], "label": 7}\n', "line 1: `label` is 7, out of range"),
        (json.dumps({"context": "a", "endings": ["b" * 40, "c"], "label": 0}) + "\n", "ending 0 has 41 tokens"),
    ],
)
def test_a_mistake_is_one_message(
    counting_ar: Path, tmp_path: Path, crossover: Call, content: str | None, message: str
) -> None:
    arguments = []
    if content is not None:
        (tmp_path / "bad.jsonl").write_text(content)
        arguments = ["--tasks", tmp_path / "bad.jsonl"]
    done = crossover("evaluate", counting_ar, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1
