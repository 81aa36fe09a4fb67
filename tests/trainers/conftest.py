"""A tiny corpus, and helpers that are imported by name: with `--import-mode=importlib` a test's folder is no path."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from crossover.trainers.data import prepare_corpus

sys.path.append(str(Path(__file__).parent))

_WORDS = ["the", "model", "of", "token", "data", "noise", "mask", "learns", "repeats", "reads", "one", "many", "again"]


def make_tiny_corpus(folder: Path) -> Path:
    """60 documents of about 300 bytes, a quarter of them each for validation and test."""
    (folder / "text").mkdir()
    words = random.Random(0)
    for number in range(60):
        text = " ".join(words.choice(_WORDS) for _ in range(words.randrange(30, 90)))
        (folder / "text" / f"{number}.txt").write_text(text + ".\n")
    fractions = {"training": 0.5, "validation": 0.25, "test": 0.25}
    prepare_corpus([folder / "text"], folder / "corpus", piece_tokens=128, fractions=fractions)
    return folder / "corpus"


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus for all tests."""
    return make_tiny_corpus(tmp_path_factory.mktemp("corpus"))
