"""`torchrun -m crossover.trainers`, as a user has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import loop_examples as example
import pytest
import yaml

from crossover.trainers.record import TrialRecord

pytestmark = pytest.mark.slow  # each start loads torch three times

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(corpus: Path, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """`--standalone` takes a port that is free."""
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(example.config(corpus, **settings).model_dump(exclude_unset=True)))
    command = [*TORCHRUN, "-m", "crossover.trainers", str(config), "--output", str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_two_workers_train_one_run_and_the_first_one_speaks(tiny_corpus: Path, tmp_path: Path) -> None:
    done = torchrun(tiny_corpus, tmp_path, evaluation__ratio=3.0)
    assert done.returncode == 0, done.stderr
    record = TrialRecord(tmp_path / "out")
    rows = record.evaluations()
    assert [row.world_size for row in rows] == [2] * len(rows)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(rows) + 1
    assert lines[-1].startswith("completed: all 5 epochs are done; best ")


def test_a_mistake_is_said_once_and_by_exit_code_2(tiny_corpus: Path, tmp_path: Path) -> None:
    done = torchrun(tiny_corpus, tmp_path, schedule__batch_size=3)
    assert done.stderr.count("error: schedule.batch_size is 3, which 2 workers cannot share evenly") == 1
    assert done.stderr.count("error: ") == 1
    assert "exitcode  : 2" in done.stderr, "of a worker: torchrun's own is 1 whatever its workers' is"
    assert "loop.py" not in done.stderr, "no traceback of ours"
    assert not (tmp_path / "out").exists()
