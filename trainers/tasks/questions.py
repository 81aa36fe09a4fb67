"""Multiple-choice questions from a JSONL file with HellaSwag's fields.

A line is an object with `context` (or HellaSwag's `ctx`), `endings` and `label`, the index of the right ending, a
number or digits; other fields are left alone. `separator` stands between context and ending and is scored with the
ending: one space where a line does not say otherwise, as in lm-evaluation-harness.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossover.trainers.errors import CrossoverError

__all__ = ["Question", "Task", "TaskError", "read_task", "task_hash"]

_CONTEXT_FIELDS = ("context", "ctx")
_MIN_ENDINGS = 2


class TaskError(CrossoverError):
    """A tasks file that is broken, or that a model cannot be asked."""


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        context: what is read.
        endings: what may follow.
        label: index of the right one.
        separator: what stands between the two.
        line: number of its line in the file, from 1.
    """

    context: str
    endings: tuple[str, ...]
    label: int
    separator: str
    line: int


@dataclass(frozen=True)
class Task:
    """The questions of one file.

    Args:
        name: the file's, without its ending.
        path: where it lies.
        questions: in the order of the file.
    """

    name: str
    path: Path
    questions: tuple[Question, ...]


def read_task(path: Path) -> Task:
    """Reads a tasks file.

    Raises:
        TaskError: it cannot be read, is empty, or a line is broken: the message says which, and what it needs.
    """
    questions = tuple(
        _question(path, number, line)
        for number, line in enumerate(_content(path).decode("utf-8", errors="surrogateescape").split("\n"), start=1)
        if line.strip()
    )
    if not questions:
        raise TaskError(f"tasks file {path} has no question: give one JSON object a line, as {_EXAMPLE}")
    return Task(path.stem, path, questions)


def task_hash(path: Path) -> str:
    """sha256 of a tasks file: by it, not by its path, a task is known.

    Raises:
        TaskError: it cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"tasks file {path} cannot be read: {error.strerror}") from None


def _question(path: Path, number: int, line: str) -> Question:
    def broken(what: str) -> TaskError:
        return TaskError(f"tasks file {path}, line {number}: {what}; a line is {_EXAMPLE}")

    try:
        content: Any = json.loads(line.encode("utf-8", errors="surrogateescape").decode())
    except UnicodeDecodeError as error:
        raise broken(f"no UTF-8 text (byte 0x{error.object[error.start]:02x} at offset {error.start})") from None
    except ValueError as error:
        raise broken(f"no JSON ({error})") from None
    if not isinstance(content, dict):
        raise broken(f"a JSON {type(content).__name__}, not an object")
    context = next((content[name] for name in _CONTEXT_FIELDS if name in content), None)
    if not isinstance(context, str):
        raise broken("no text in `context`" if context is None else f"`context` is {context!r}, not text")
    endings = content.get("endings")
    if not isinstance(endings, list) or len(endings) < _MIN_ENDINGS or not all(isinstance(e, str) for e in endings):
        raise broken(f"`endings` is {_shown(endings)}, and must be a list of {_MIN_ENDINGS} texts or more")
    separator = content.get("separator", " ")
    if not isinstance(separator, str):
        raise broken(f"`separator` is {separator!r}, not text")
    if "" in endings:
        raise broken(f"ending {endings.index('')} is empty")
    label = _label(content.get("label"))
    if label is None:
        raise broken(f"`label` is {content.get('label')!r}, and must be the number of the right ending")
    if not 0 <= label < len(endings):
        raise broken(f"`label` is {label}, out of range: there are {len(endings)} endings, 0 to {len(endings) - 1}")
    return Question(context, tuple(endings), label, separator, number)


def _label(value: object) -> int | None:
    """HellaSwag's files write digits as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_EXAMPLE = '{"context": "The cat sat", "endings": ["on the mat", "of nine"], "label": 0}'
