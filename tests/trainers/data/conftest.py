from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

import pytest

from crossover.trainers.data import Corpus, open_corpus, prepare_corpus
from crossover.trainers.data.manifest import SplitName

sys.path.append(str(Path(__file__).parent))

PIECE_TOKENS = 64
FRACTIONS: dict[SplitName, float] = {"training": 0.6, "validation": 0.2, "test": 0.2}


def write_texts(folder: Path, num_texts: int, seed: int = 0) -> Path:
    """A folder of distinct texts of 1 to 500 bytes or so, in two levels, some beyond ASCII, a quarter full pieces."""
    source = random.Random(seed)
    (folder / "inner").mkdir(parents=True)
    for number in range(num_texts):
        letters = "".join(source.choices("abcdefgh \nüß€😀", k=source.choice([1, 63, 64, 65, 128, 300])))
        path = folder / ("inner" if number % 3 else "") / f"{number}.txt"
        text = f"{number}:{letters}".encode()
        path.write_bytes(text if number % 4 else text.ljust(-(-len(text) // 64) * 64, b"."))
    return folder


def texts_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.txt"))]


def split_of(text: bytes) -> str:
    """The rule of the split, written down a second time: the first 48 bits of the sha256 as a fraction."""
    place = int(hashlib.sha256(text).hexdigest()[:12], 16) / 2**48
    return "training" if place < 0.6 else "validation" if place < 0.8 else "test"


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "library", 60)


@pytest.fixture(scope="session")
def corpus(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpora") / "small"
    prepare_corpus([texts], folder, piece_tokens=PIECE_TOKENS, fractions=FRACTIONS, shard_bytes=1000)
    return open_corpus(str(folder))
