"""The answer in the terminal: the closing summary of a study."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
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
    out = console or Console(highlight=False, soft_wrap=True)
    found = _answer_of(study)
    for note in found.notes:
        out.print(Text(note, style="yellow"))
    for pair in found.pairs:
        _print_pair(pair, out)
    return found


def _answer_of(study: Path | str | StudyTables | Answer) -> Answer:
    if isinstance(study, Answer):
        return study
    return answer(study if isinstance(study, StudyTables) else load_study(study))


def _print_pair(pair: PairAnswer, out: Console) -> None:
    out.print(Text(f"\n{pair.title}", style="bold"))
    for words in (*pair.crossing_words, pair.test_words, *pair.best_words):
        if words:
            out.print(Text(f"  {words}"))
    for note in pair.notes:
        out.print(Text(f"  {note}", style="yellow"))
