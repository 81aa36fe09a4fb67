from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_models import tiny_transformer
from task_examples import nats_by_chain, question, write_lines

from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.objectives import LanguageModel, WindowNats
from crossover.trainers.objectives.autoregressive import Autoregressive
from crossover.trainers.tasks.evaluation import evaluate_tasks
from crossover.trainers.tasks.multiple_choice import EncodedTask, TaskScores, encode_task, score_task
from crossover.trainers.tasks.questions import Task, TaskError, read_task
from crossover.trainers.trained import open_model

pytestmark = pytest.mark.integration

AR = Autoregressive(begin=BYTES.begin, mask=BYTES.mask)


def encoded(path: Path, *lines: object, context_tokens: int = 16) -> EncodedTask:
    return encode_task(read_task(write_lines(path / "task.jsonl", *lines)), encode, context_tokens)


def encode(text: str) -> list[int]:
    return list(text.encode())


class Told(Autoregressive):
    """Costs what it is told, option by option, whatever the model."""

    def __init__(self, nats: Sequence[Sequence[float]]) -> None:
        self.nats = nats

    def window_nats(self, model: LanguageModel, windows: object, **_: object) -> WindowNats:
        """In the order in which options are scored: equal lengths keep theirs."""
        return WindowNats(np.array(self.nats, dtype=np.float64))


def told(path: Path, nats: Sequence[Sequence[float]], labels: Sequence[int], endings: Sequence[str]) -> TaskScores:
    task = encoded(path, *(question(endings=endings, label=label) for label in labels))
    return score_task(tiny_transformer(vocabulary=BYTES), Told(nats), task, BYTES, num_masks=2, seed=0)


def test_gap_is_that_of_the_right_to_the_best_wrong_option(tmp_path: Path) -> None:
    found = told(tmp_path, [[3.0], [5.0], [9.0], [8.0], [2.0], [4.0]], [0, 2], ["aa", "bb", "cc"])
    np.testing.assert_allclose(found.gap_Q, [2.0, -2.0])
    assert (found.accuracy, found.gap, found.num_questions) == (0.5, 0.0, 2)
    assert found.gap_se == pytest.approx(np.std([2.0, -2.0], ddof=1) / math.sqrt(2))
    assert found.gap_se_mc == found.accuracy_se_mc == 0.0


def test_monte_carlo_errors_come_from_the_masks(tmp_path: Path) -> None:
    found = told(tmp_path, [[2.0, 4.0], [5.0, 5.0], [4.0, 4.0], [1.0, 6.0]], [0, 1], ["aa", "bb"])
    errors = [math.hypot(1.0, 0.0), math.hypot(0.0, 2.5)]
    assert found.gap_se_mc == pytest.approx(math.hypot(*errors) / 2)
    assert 0 < found.accuracy_se_mc < 0.5


def test_by_length_an_option_counts_by_its_bytes(tmp_path: Path) -> None:
    task = encoded(tmp_path, question(endings=["dddd", "c"], label=0))
    costs = Told([[6.0], [2.0]])  # the longer one is scored first
    found = score_task(tiny_transformer(vocabulary=BYTES), costs, task, BYTES, num_masks=2, seed=0)
    assert (found.accuracy, found.accuracy_norm) == (0.0, 1.0)


def test_likelihoods_that_are_not_finite_are_wrong(tmp_path: Path) -> None:
    found = told(tmp_path, [[math.nan], [math.nan]], [0], ["aa", "bb"])
    assert (found.accuracy, found.accuracy_norm) == (0.0, 0.0)
    assert found.summary()["gap"] is None


@torch.no_grad()
def test_scores_are_those_of_likelihoods_by_the_chain_rule(tmp_path: Path) -> None:
    model = tiny_transformer(vocabulary=BYTES)
    task = encoded(tmp_path, question(), question("xyz", ["longer", "s", "ab"], 2))
    found = score_task(model, AR, task, BYTES, num_masks=2, seed=0)
    nats = [nats_by_chain(model, option) for option in task.options]
    np.testing.assert_allclose(found.gap_Q, [nats[1] - nats[0], min(nats[2:4]) - nats[4]], rtol=1e-4)
    assert found.accuracy == np.mean([nats[0] < nats[1], nats[4] < min(nats[2:4])])


def test_of_a_long_context_the_end_is_read(tmp_path: Path) -> None:
    task = encoded(tmp_path, question("0123456789", ["ab", "c"]), context_tokens=8)
    assert [bytes(option.context).decode() for option in task.options] == ["56789", "456789"]
    assert [bytes(option.tokens).decode() for option in task.options] == [" ab", " c"]


def test_an_option_longer_than_the_context_is_refused_by_its_line(tmp_path: Path) -> None:
    lines = [question(), question(endings=["short", "x" * 16])]
    with pytest.raises(TaskError, match=r"line 2: ending 1 has 17 tokens, and the model reads 16"):
        encoded(tmp_path, *lines)


def test_both_objectives_learn_to_tell_the_corpus_from_noise(
    tmp_path: Path, trained_ar: Path, trained_mdm: Path
) -> None:
    lines = [question("the model", ["of data", "\x01\x02\x03\x04\x05\x06\x07"], 0) for _ in range(4)]
    path = write_lines(tmp_path / "task.jsonl", *lines)
    for folder in (trained_ar, trained_mdm):
        (found,) = evaluate_tasks(open_model(folder), [path], num_masks=8)
        assert found.accuracy == 1.0
        assert found.gap > 5
        assert (found.gap_se_mc > 0) == (folder == trained_mdm)


def test_every_file_is_checked_before_anything_is_scored(tmp_path: Path, trained_ar: Path) -> None:
    good, bad = write_lines(tmp_path / "good.jsonl", question()), write_lines(tmp_path / "bad.jsonl", "{")
    trained = open_model(trained_ar)
    trained.model.hidden = lambda *_, **__: pytest.fail("scored")  # type: ignore[method-assign]
    with pytest.raises(TaskError, match=r"bad\.jsonl, line 1"):
        evaluate_tasks(trained, [good, bad])


def test_a_question_alone_has_no_error(tmp_path: Path) -> None:
    task = Task("one", tmp_path, encoded(tmp_path, question()).task.questions)
    found = score_task(
        tiny_transformer(vocabulary=BYTES), AR, encode_task(task, encode, 16), BYTES, num_masks=2, seed=0
    )
    assert math.isnan(found.gap_se)
    assert found.summary()["gap_se"] is None
