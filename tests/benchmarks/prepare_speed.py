"""Preparing a corpus against `datasets.map` with the same tokenizer and processes; memory; random reading; the order.

Preparing does more than tokenize: it checks, hashes, sorts, drops duplicates and near-duplicates, and writes checked
shards. What `datasets` is asked for is to read the JSON lines, to tokenize them and to write the result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from harness import Goal, publish, seconds_of

from crossover.trainers.data.permutation import KeyedPermutation, SequenceOrder
from crossover.trainers.data.preparation.executors import Processes
from crossover.trainers.data.prepare import prepare_corpus

HUGE_TOKENS = 10**12


def write_source(path: Path, num_bytes: int) -> int:
    """JSON lines of made-up words, about 2 kB a document, none near another; gives the bytes of their text."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(20_000)]
    written = 0
    with path.open("w") as file:
        while written < num_bytes:
            text = " ".join(draw.choices(words, k=300))
            file.write(json.dumps({"text": text}) + "\n")
            written += len(text)
    return written


def ours(source: Path, folder: Path, tokenizer: str, workers: int) -> None:
    """Prepares the corpus in that many processes."""
    prepare_corpus([source], folder, tokenizer=tokenizer, executor=Processes(workers))


def theirs(source: Path, folder: Path, tokenizer: str, workers: int) -> None:
    """Reads, tokenizes and saves with `datasets`, nothing cached before."""
    from datasets import Dataset

    dataset = Dataset.from_json(str(source), cache_dir=str(folder / "cache"))
    encode = _as_bytes if tokenizer == "bytes" else _Encode(tokenizer)
    dataset.map(encode, batched=True, num_proc=workers, remove_columns=["text"]).save_to_disk(
        str(folder / "saved"), num_proc=workers
    )


def _as_bytes(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    return {"input_ids": [list(text.encode()) for text in batch["text"]]}


class _Encode:
    """A tokenizer.json, loaded once a process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tokenizer: object = None

    def __getstate__(self) -> dict[str, object]:
        return {"_path": self._path, "_tokenizer": None}

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            self._tokenizer = Tokenizer.from_file(self._path)
        encodings = self._tokenizer.encode_batch(batch["text"], add_special_tokens=False)  # type: ignore[attr-defined]
        return {"input_ids": [encoding.ids for encoding in encodings]}


def peak_bytes(action: Callable[[], object]) -> int:
    """Most proportional memory of this process and its children while `action` runs."""
    peak, is_done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        me = psutil.Process()
        while not is_done.wait(0.2):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        is_done.set()
        watcher.join()
    return peak


def reading(folder: Path, sequence_length: int, batch_size: int) -> float:
    """Tokens a second of batches in the training order."""
    from crossover.trainers.data import TrainingSubset, open_corpus

    corpus = open_corpus(str(folder))
    subset = TrainingSubset(corpus, corpus.num_training_tokens(), sequence_length, seed=0)
    begin, num_tokens, cursor = time.perf_counter(), 0, 0
    while (elapsed := time.perf_counter() - begin) < 3:
        num_tokens += subset.batch(cursor, batch_size, 0).num_tokens
        cursor += batch_size
    return num_tokens / elapsed


def huge_order() -> tuple[float, float]:
    """Microseconds of one index of a permutation of 10^12, and of one batch of 16 of an order of so many tokens."""
    permutation, one = KeyedPermutation(HUGE_TOKENS, 0), np.array([HUGE_TOKENS // 3])
    order = SequenceOrder(HUGE_TOKENS // 1024, 0)
    order.indices(0, 16)
    single = min(seconds_of(lambda: permutation(one)) for _ in range(50))
    batches = seconds_of(lambda: [order.indices(cursor, 16) for cursor in range(0, 65_536, 16)]) / 4096
    return 1e6 * single, 1e6 * batches


def main() -> None:
    """Measures preparing, its memory, reading and the order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trainer-tokens-per-second", type=float, help="of the fastest trainer here, to compare with")
    options = parser.parse_args()
    rows, goals = [], []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        megabytes = write_source(place / "source.jsonl", options.megabytes * 10**6) / 1e6
        prepare_corpus([place / "source.jsonl"], place / "bpe", tokenizer="bpe:8192")
        for name, tokenizer in (("bytes", "bytes"), ("bpe:8192", str(place / "bpe" / "tokenizer.json"))):
            speeds: dict[str, list[float]] = {"ours": [], "datasets": []}
            for _ in range(options.repeats):
                for who, action in (("ours", ours), ("datasets", theirs)):
                    with tempfile.TemporaryDirectory(dir=place) as output:
                        folder = Path(output, "corpus")
                        seconds = seconds_of(lambda: action(place / "source.jsonl", folder, tokenizer, options.workers))  # noqa: B023
                        speeds[who].append(megabytes / seconds)
            ratios = [a / b for a, b in zip(speeds["ours"], speeds["datasets"], strict=True)]
            ratio = float(np.median(ratios))
            rows.append(
                {
                    "tokenizer": name,
                    "MB/s": float(np.median(speeds["ours"])),
                    "datasets.map, MB/s": float(np.median(speeds["datasets"])),
                    "ratio": ratio,
                    "processes": options.workers,
                    "MB": megabytes,
                }
            )
            goals.append(Goal(f"{name}: times as fast as datasets.map", ratio, at_least=1.5))
        peak = peak_bytes(lambda: ours(place / "source.jsonl", place / "bytes", "bytes", options.workers))
        goals.append(Goal("peak memory of all processes, GB", peak / 1e9, at_most=2.0))
        speed = reading(place / "bytes", 128, 16)
        if options.trainer_tokens_per_second:
            times = speed / options.trainer_tokens_per_second
            goals.append(Goal("random reading over the fastest trainer", times, at_least=20))
        single, batch = huge_order()
        rows_of_reading = {
            "reading, million tokens/s": speed / 1e6,
            "one index of 10^12, us": single,
            "batch, us": batch,
        }
        goals.append(Goal("an index of a permutation of 10^12, microseconds", single, at_most=1000))
        goals.append(Goal("a batch of an order over 10^12 tokens, microseconds", batch, at_most=1000))
    publish("prepare_speed", rows, goals)
    print(json.dumps(rows_of_reading))


if __name__ == "__main__":
    main()
