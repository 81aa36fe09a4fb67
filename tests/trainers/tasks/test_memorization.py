from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_examples import config

from crossover.trainers.data import TrainingSubset, open_corpus
from crossover.trainers.errors import ConfigError
from crossover.trainers.generation import generator_of
from crossover.trainers.loop import train
from crossover.trainers.objectives import build
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import AloneRun
from crossover.trainers.tasks.memorization import auc, measure_memorization, memorization_pieces
from crossover.trainers.trained import open_model

pytestmark = pytest.mark.integration

LONG = {"data__sequence_length": 32, "data__unique_tokens": 400, "stopping__rule": "none", "model__width": 64}


def test_training_starts_without_the_statistics_library() -> None:
    code = "import sys, crossover.trainers.loop; sys.exit(str([name for name in sys.modules if name == 'scipy.stats']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]", "it takes a second, which every start of a trial would bear"


def test_area_is_the_share_of_pairs_and_its_error_their_scatter() -> None:
    random = np.random.default_rng(0)
    areas, errors = [], []
    for _ in range(300):
        members, others = random.normal(0, 1, 30), random.normal(0.5, 1, 40)
        area, error = auc(members, others)
        pairs = (members[:, None] < others).mean() + (members[:, None] == others).mean() / 2
        assert area == pytest.approx(pairs)
        areas.append(area)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.15)


def test_equal_costs_say_nothing_and_missing_ones_are_missing() -> None:
    assert auc(np.ones(5), np.ones(7))[0] == 0.5
    assert auc(np.zeros(5), np.ones(7)) == (1.0, 0.0)
    assert np.isnan(auc(np.array([np.nan, 1.0]), np.ones(2))).all()


def test_pieces_are_whole_sequences_of_either_side(tiny_corpus: Path) -> None:
    corpus = open_corpus(str(tiny_corpus))
    pieces = memorization_pieces(corpus, TrainingSubset(corpus, 400, 32, 0), 10, seed=0)
    training, held_out = pieces.training.tokens_WL.tolist(), pieces.held_out.tokens_WL.tolist()
    assert len(training) == len(held_out) == 10
    assert len({tuple(row) for row in training + held_out}) == 20
    stream = TrainingSubset(corpus, 384, 32, 0).sequences(np.arange(12)).tolist()
    assert all(row in stream for row in training)
    texts = [path.read_bytes() for path in (tiny_corpus.parent / "text").iterdir()]
    for row in held_out:
        longest = max(bytes(token if token < 256 else 0 for token in row).split(b"\0"), key=len)
        assert any(longest in text for text in texts)


@pytest.mark.parametrize("objective", ["autoregressive", "masked_diffusion"])
def test_a_model_that_repeats_its_data_remembers_it_and_an_untrained_one_does_not(
    tiny_corpus: Path, tmp_path: Path, objective: str
) -> None:
    settings = config(
        tiny_corpus,
        objective__name=objective,
        schedule__epochs=60,
        optimizer__name="muon",
        optimizer__learning_rate=5e-3,
        regularization__dropout=0.0,
        evaluation__first_epoch=60,
        evaluation__memorization_pieces=12,
        **LONG,
    )
    run = AloneRun(tmp_path / "run")
    train(settings, run)
    (row,) = TrialRecord(run.directory).evaluations()
    is_exact = objective == "autoregressive"
    assert row.memorization_auc is not None and row.memorization_auc > (0.95 if is_exact else 0.6)
    assert row.reproduced_fraction is not None and row.reproduced_held_out_fraction is not None
    assert row.reproduced_fraction >= row.reproduced_held_out_fraction + 0.1 * is_exact
    trained = open_model(run.directory)
    corpus = open_corpus(str(tiny_corpus))
    pieces = memorization_pieces(corpus, TrainingSubset(corpus, 400, 32, 0), 12, seed=0)
    torch.manual_seed(0)
    untrained = type(trained.model)(trained.shape, trained.config.regularization).eval()
    found = measure_memorization(
        untrained,
        build(settings, trained.vocabulary),
        generator_of(objective, untrained, trained.vocabulary),
        pieces,
        num_masks=4,
        seed=0,
    )
    assert abs(found.auc - 0.5) < 4 * found.auc_se
    assert found.reproduced_fraction == found.reproduced_held_out_fraction == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluation__memorization_pieces": 40, **LONG}, "there are 12 whole training sequences"),
        ({"evaluation__memorization_pieces": 4}, "sequences of 16 tokens are too short"),
    ],
)
def test_too_little_text_is_refused_before_anything_is_trained(
    tiny_corpus: Path, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(tiny_corpus, **settings), AloneRun(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
