"""Losses of two tiny runs against `golden_losses.json`: a change that is not meant to be numeric must not move them.

Without dropout, whose noise is the device's own, everything random is drawn on the CPU, so the losses are the same on
every machine but for the order of sums. Rewrite the file, and say why, with
`python tests/trainers/test_golden_losses.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

import loop_examples as example

from crossover.trainers.loop import train
from crossover.trainers.record import TrialRecord

GOLDEN = Path(__file__).with_name("golden_losses.json")
DETERMINISTIC = {"regularization.dropout": 0.0, "regularization.attention_dropout": 0.0}
RUNS = {settings["objective.name"]: settings | DETERMINISTIC for settings in example.OBJECTIVES}


def losses(corpus: Path, folder: Path, settings: dict[str, Any]) -> dict[str, list[float | None] | float | None]:
    leg = train(example.config(corpus, **settings), example.ScriptedRun(folder))
    rows = TrialRecord(folder).evaluations()
    return {
        "train_loss": [row.train_loss for row in rows],
        "val_loss": [row.val_loss for row in rows],
        "test_loss": leg.end and leg.end.test_loss,
    }


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_the_golden_ones(name: str, tiny_corpus: Path, tmp_path: Path) -> None:
    found = losses(tiny_corpus, tmp_path, RUNS[name])
    expected = json.loads(GOLDEN.read_text())[name]
    for measure, values in expected.items():
        assert found[measure] == pytest.approx(values, rel=1e-4), measure


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNS)
def test_losses_are_the_golden_ones_on_a_gpu(name: str, tiny_corpus: Path, tmp_path: Path) -> None:
    found = losses(tiny_corpus, tmp_path, RUNS[name] | {"execution.device": "cuda"})
    expected = json.loads(GOLDEN.read_text())[name]
    for measure, values in expected.items():
        assert found[measure] == pytest.approx(values, rel=1e-3), measure


def _rewrite() -> None:
    from conftest import make_tiny_corpus

    with tempfile.TemporaryDirectory() as folder:
        corpus = make_tiny_corpus(Path(folder))
        golden = {name: losses(corpus, Path(folder) / name, settings) for name, settings in RUNS.items()}
    GOLDEN.write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    _rewrite()
