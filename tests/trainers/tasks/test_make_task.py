from __future__ import annotations

from pathlib import Path

import pytest

from crossover.trainers.data import open_corpus
from crossover.trainers.errors import CorpusError
from crossover.trainers.tasks.make_task import TaskShape, make_task
from crossover.trainers.tasks.questions import TaskError, read_task

SHAPE = TaskShape(num_questions=30, context_characters=20, ending_characters=10, num_endings=3)


def texts_of(corpus: Path) -> list[str]:
    return [path.read_text() for path in (corpus.parent / "text").iterdir()]


def test_right_endings_continue_their_passage_and_wrong_ones_are_of_other_documents(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    make_task(open_corpus(str(tiny_corpus)), tmp_path / "task.jsonl", SHAPE)
    questions = read_task(tmp_path / "task.jsonl").questions
    texts = texts_of(tiny_corpus)
    assert len(questions) == 30
    assert [sum(q.label == label for q in questions) for label in range(3)] == [10, 10, 10]
    for one in questions:
        own = [text for text in texts if one.context + one.endings[one.label] in text]
        assert own
        assert len(one.context) == 20
        assert one.separator == ""
        for place, ending in enumerate(one.endings):
            assert len(ending) == 10
            assert place == one.label or any(ending in text for text in texts if text not in own)


def test_the_same_seed_makes_the_same_file_and_another_split_another(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(tiny_corpus))
    make_task(corpus, tmp_path / "a", SHAPE)
    make_task(corpus, tmp_path / "b", SHAPE)
    make_task(corpus, tmp_path / "c", SHAPE, "test")
    make_task(corpus, tmp_path / "d", SHAPE, seed=1)
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_passages_longer_than_the_documents_are_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has 0 validation documents of 100,?020 characters or more"):
        make_task(open_corpus(str(tiny_corpus)), tmp_path / "task", TaskShape(context_characters=99_988))
    assert not (tmp_path / "task").exists()


def test_a_file_that_is_there_is_left_alone(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "task").write_text("mine")
    with pytest.raises(TaskError, match="is there already"):
        make_task(open_corpus(str(tiny_corpus)), tmp_path / "task", SHAPE)
    assert (tmp_path / "task").read_text() == "mine"
