"""Memory does not grow with the corpus: four times the text is prepared in the same memory, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PART_BYTES = 2 << 20
SMALL, LARGE = 24 << 20, 96 << 20
PREPARE = f"""
import resource, sys
from pathlib import Path
from crossover.trainers.data import prepare_corpus
from crossover.trainers.data.preparation import pipeline, runs
from crossover.trainers.data.preparation.executors import Here
pipeline.PART_BYTES = runs._RUN_BYTES = {PART_BYTES}
manifest = prepare_corpus([sys.argv[1]], Path(sys.argv[2]), executor=Here(), shard_bytes={PART_BYTES})
print(manifest.splits["training"].num_documents, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def write_source(path: Path, num_bytes: int) -> int:
    """Documents of 2 kB of random letters, and how many."""
    draw, count = np.random.default_rng(0), num_bytes // 2048
    with path.open("w") as file:
        for _ in range(count):
            file.write(json.dumps({"text": draw.integers(97, 123, 2048, dtype=np.uint8).tobytes().decode()}) + "\n")
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is another elsewhere")
def test_four_times_the_text_takes_the_same_memory(tmp_path: Path) -> None:
    peaks = []
    for size in (SMALL, LARGE):
        source = tmp_path / f"{size}.jsonl"
        count = write_source(source, size)
        command = [sys.executable, "-c", PREPARE, str(source), str(tmp_path / str(size))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        num_training, peak = map(int, done.stdout.split())
        assert num_training > 0.8 * count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 0.2 * (LARGE - SMALL), [f"{peak / 1e6:.0f} MB" for peak in peaks]
