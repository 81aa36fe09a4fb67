"""The answer in the terminal: the closing summary of a study.

On a terminal sentences are broken between words and indented; in a file or a pipe each keeps its line.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from crossover.platform.analysis.answers import Answer, PairAnswer, answer
from crossover.platform.analysis.tables import StudyTables, load_study

__all__ = ["print_answer"]


def print_answer(study: Path | str | StudyTables | Answer, console: Console | None = None) -> Answer:
    """Print what a study found out, and return it.

    Args:
        study: a study's folder, its tables, or the answer itself.
        console: where to print; by default standard output.
    """
    out = console or Console(highlight=False)
    found = _answer_of(study)
    for note in found.notes:
        _say(note, out, style="yellow")
    for pair in found.pairs:
        _print_pair(pair, out)
    return found


def _answer_of(study: Path | str | StudyTables | Answer) -> Answer:
    if isinstance(study, Answer):
        return study
    return answer(study if isinstance(study, StudyTables) else load_study(study))


def _print_pair(pair: PairAnswer, out: Console) -> None:
    out.print()
    _say(pair.title, out, style="bold")
    for words in (*pair.crossing_words, pair.test_words, *pair.best_words):
        if words:
            _say(words, out, indent=2)
    for note in pair.notes:
        _say(note, out, indent=2, style="yellow")


def _say(words: str, out: Console, *, indent: int = 0, style: str = "") -> None:
    if out.is_terminal:
        out.print(Padding(Text(words, style), (0, 0, 0, indent)))
    else:
        out.print(Text(" " * indent + words, style), soft_wrap=True)
