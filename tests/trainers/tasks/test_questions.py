from __future__ import annotations

from pathlib import Path

import pytest
from task_examples import question, write_lines

from crossover.trainers.tasks.questions import Question, TaskError, read_task, task_hash


def test_fields_are_those_of_hellaswag(tmp_path: Path) -> None:
    lines = [
        question("ab", ["c", "de"], 1, source_id="activitynet~v_1", split="val"),
        {"ctx": "xy", "endings": ["1", "2", "3"], "label": "2", "activity_label": "Surfing"},
        question("ab", ["c", "d"], 0, separator=""),
    ]
    task = read_task(write_lines(tmp_path / "mine.jsonl", *lines))
    assert task.name == "mine"
    assert task.questions == (
        Question("ab", ("c", "de"), 1, " ", 1),
        Question("xy", ("1", "2", "3"), 2, " ", 2),
        Question("ab", ("c", "d"), 0, "", 3),
    )


def test_a_task_is_known_by_its_content(tmp_path: Path) -> None:
    one, same = (write_lines(tmp_path / name, question()) for name in ("a.jsonl", "b.jsonl"))
    assert task_hash(one) == task_hash(same) != task_hash(write_lines(tmp_path / "c.jsonl", question(label=1)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "no JSON"),
        ('["a"]', "a JSON list, not an object"),
        ({"endings": ["a", "b"], "label": 0}, "no text in `context`"),
        (question(context=5), "`context` is 5, not text"),  # type: ignore[arg-type]
        (question(endings=["a"]), "`endings` is ['a'], and must be a list of 2 texts or more"),
        ({"context": "a", "label": 0}, "`endings` is None"),
        (question(endings=["a", ""]), "ending 1 is empty"),
        (question(label=2), "`label` is 2, out of range: there are 2 endings, 0 to 1"),
        (question(label=-1), "`label` is -1, out of range"),
        (question(label="right"), "`label` is 'right', and must be the number"),
        (question(label=None), "`label` is None"),
        (question(label=True), "`label` is True"),
        (question(separator=3), "`separator` is 3, not text"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: object, message: str) -> None:
    path = write_lines(tmp_path / "tasks.jsonl", question(), "", line, question())
    with pytest.raises(TaskError) as caught:
        read_task(path)
    assert f"{path}, line 3: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "tasks.jsonl", question())
    path.write_bytes(path.read_bytes() + b'{"context": "\xff", "endings": ["a", "b"], "label": 0}\n')
    with pytest.raises(TaskError, match=r"line 2: no UTF-8 text \(byte 0xff at offset 13\)"):
        read_task(path)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(content)
    with pytest.raises(TaskError, match="has no question"):
        read_task(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read: No such file"):
        read_task(tmp_path / "none.jsonl")
