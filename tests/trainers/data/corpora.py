"""Texts and corpora that tests of the data front door share."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crossover.trainers.data import Corpus, Manifest, prepare_corpus
from crossover.trainers.data.manifest import SPLITS, SplitName

FRACTIONS: dict[SplitName, float] = {"training": 0.6, "validation": 0.2, "test": 0.2}


def sentences(count: int, seed: int = 0, words: int = 60) -> list[str]:
    """Distinct texts of made-up words, some beyond ASCII."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijkl", k=draw.randint(2, 7))) for _ in range(300)] + [
        "größe",
        "😀",
        "µ",
    ]
    return [f"{number} " + " ".join(draw.choices(vocabulary, k=words)) for number in range(count)]


def write_parquet(path: Path, columns: dict[str, list[object]], row_group_size: int = 10) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def prepared(source: object, output: Path, **changes: object) -> Manifest:
    sources = source if isinstance(source, list) else [source]
    return prepare_corpus(sources, output, **({"fractions": FRACTIONS} | changes))  # type: ignore[arg-type]


def texts_in(corpus: Corpus) -> set[bytes]:
    """All documents of a corpus of bytes."""
    found = set()
    for split in SPLITS:
        tokens = corpus.split(split)
        found |= {bytes(tokens.read(*pair).astype("u1")) for pair in pairwise(tokens.document_offsets.tolist())}
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file but the manifest, which names the sources."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
