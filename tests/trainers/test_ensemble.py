"""Ensembles: averages by hand, likelihoods that add up to one, and what makes no ensemble."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import loop_examples as example
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from crossover.platform.cli import app
from crossover.trainers.ensemble import Averaging, Ensemble, evaluate_ensemble, open_members
from crossover.trainers.errors import ConfigError
from crossover.trainers.loop import train
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives.autoregressive import Autoregressive
from crossover.trainers.record import TrialRecord

sys.path.append(str(Path(__file__).parent / "objectives"))

from exact_models import TINY, all_sequences, tiny_transformer, windows_of

pytestmark = pytest.mark.integration

SETTINGS = {"evaluation.ratio": 3.0, "regularization.dropout": 0.0}
MDM = {"objective.name": "masked_diffusion"}
TRIALS: dict[str, dict[str, Any]] = {
    "a": {"seed": 1}, "b": {"seed": 2}, "wide": {"seed": 3, "model.width": 64}, "data": {"data.seed": 5},
    "mdm-a": {"seed": 1, **MDM}, "mdm-b": {"seed": 2, **MDM}, "masks": {"evaluation.seed": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def trials(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    for name, settings in TRIALS.items():
        train(example.config(tiny_corpus, **(SETTINGS | settings)), example.ScriptedRun(folder / name))
    return folder


def conditionals(model: Transformer, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(inputs, causal=True).double()


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_an_autoregressive_ensemble_is_a_distribution_over_sequences(averaging: Averaging) -> None:
    members = [tiny_transformer(seed).eval() for seed in range(3)]
    objective, sequences = Autoregressive(begin=TINY.begin, mask=TINY.mask), all_sequences(3)
    found = objective.window_nats(Ensemble(members, averaging), windows_of(sequences), num_masks=1, seed=0).nats_WM[
        :, 0
    ]
    assert np.exp(-found).sum() == pytest.approx(1.0, abs=1e-5)
    inputs = sequences.roll(1, dims=1)
    inputs[:, 0] = TINY.begin
    logits = torch.stack([conditionals(member, inputs) for member in members])
    log_p = logits.softmax(-1).mean(0).log() if averaging == "probabilities" else logits.mean(0).log_softmax(-1)
    expected = -log_p.gather(2, sequences[:, :, None]).sum((1, 2))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("names", [("a", "b", "wide"), ("mdm-a", "mdm-b")])
def test_members_score_what_their_records_say_and_together_less(names: tuple[str, ...], trials: Path) -> None:
    members = open_members([trials / name for name in names])
    scores = evaluate_ensemble(members)
    for name, found in zip(names, scores.members, strict=True):
        end = TrialRecord(trials / name).end()
        assert end is not None and end.test_loss is not None
        assert found.loss == pytest.approx(end.test_loss, rel=1e-5)
    assert scores.mean_member.loss == pytest.approx(np.mean([member.loss for member in scores.members]), rel=1e-5)
    assert len(scores.by_probabilities) == len(names) - 1
    for together in (scores.by_probabilities[-1], scores.by_logits):
        assert together.loss < scores.mean_member.loss
        gain = scores.gain(together)
        assert gain.difference == pytest.approx(together.bits_per_byte - scores.mean_member.bits_per_byte, abs=1e-5)
    assert scores.is_bound == names[0].startswith("mdm")


def test_validation_windows_can_be_scored_too(trials: Path) -> None:
    scores = evaluate_ensemble(open_members([trials / "a", trials / "b"]), "validation")
    best = TrialRecord(trials / "a").end()
    assert best is not None
    assert scores.members[0].loss == pytest.approx(best.best_val_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "two members or more"),
        (["a", "a"], "two members or more, each once"),
        (["a", "data"], "different data: their training subsets are not the same"),
        (["a", "mdm-a"], "different objectives"),
        (["a", "b", "masks"], "different evaluation seeds"),
    ],
)
def test_what_makes_no_ensemble_is_refused(names: list[str], words: str, trials: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        open_members([trials / name for name in names])


def test_the_command_prints_members_and_ensembles(trials: Path) -> None:
    folders = [str(trials / name) for name in ("a", "b", "wide")]
    printed = CliRunner().invoke(app, ["ensemble", *folders, "--json"])
    assert printed.exit_code == 0
    content = json.loads(printed.output)
    assert [row["members"] for row in content["rows"]] == [1, 1, 1, 2, 3, 3]
    assert content["rows"][-2]["gain"] < 0
    assert all(math.isfinite(row["bits_per_byte"]) for row in content["rows"])
    table = CliRunner().invoke(app, ["ensemble", *folders])
    assert "mean of probabilities" in table.output
    assert "exact likelihoods, test text" in table.output
