"""Peak memory of preparing a large corpus, beside that of an eighth of it: it is bounded, not a share of the corpus.

The disk holds the source, and meanwhile the text once more and its tokens (2 bytes a byte): five times `--megabytes`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import Goal, publish
from prepare_speed import ours, peak_bytes

GOAL_GIGABYTES = 2.0
_WORDS, _WORDS_OF_DOCUMENT, _BATCH = 20_000, 300, 1000


def documents() -> Iterator[str]:
    """Texts of about 2 kB of made-up words without end, none near another."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = np.array(["".join(draw.choice(letters, size)) for size in draw.integers(2, 10, _WORDS)], dtype=object)
    while True:
        for row in draw.integers(0, _WORDS, (_BATCH, _WORDS_OF_DOCUMENT)):
            yield " ".join(words[row])


def write_sources(folder: Path, sizes: tuple[int, ...]) -> list[Path]:
    """A file of JSON lines of each size in bytes; the small one is the beginning of the large one."""
    paths = [folder / f"{size}.jsonl" for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        with path.open("w") as file:
            texts = documents()
            while file.tell() < size:
                file.writelines(json.dumps({"text": next(texts)}) + "\n" for _ in range(_BATCH))
    return paths


def measured(source: Path, output: Path, tokenizer: str, workers: int) -> dict[str, float | str]:
    """One preparation."""
    begin = time.perf_counter()
    peak = peak_bytes(lambda: ours(source, output, tokenizer, workers))
    megabytes = source.stat().st_size / 1e6
    return {
        "MB": megabytes,
        "peak memory, GB": peak / 1e9,
        "MB/s": megabytes / (time.perf_counter() - begin),
        "processes": workers,
        "tokenizer": tokenizer,
    }


def main() -> None:
    """Prepares both, and measures all processes of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="below 1000 the small one is less than one part")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tokenizer", default="bytes")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in write_sources(Path(scratch), (options.megabytes * 125_000, options.megabytes * 1_000_000)):
            rows.append(measured(source, Path(scratch, source.stem), options.tokenizer, options.workers))
            source.unlink()
    small, large = (float(row["peak memory, GB"]) for row in rows)
    goals = [
        Goal("peak memory of all processes, GB", large, at_most=GOAL_GIGABYTES),
        Goal("peak over that of an eighth of the corpus", large / small, at_most=1.5),
    ]
    publish("prepare_memory", rows, goals)


if __name__ == "__main__":
    main()
