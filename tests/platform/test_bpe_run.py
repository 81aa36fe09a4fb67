"""From text to a trained model of a BPE vocabulary, by the commands alone, beside the same of bytes.

Bits per byte are of the same text whatever the tokens are; FLOPs are counted from the weights that were saved.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from crossover.trainers.data import Vocabulary, open_corpus
from crossover.trainers.record import TrialRecord
from crossover.trainers.trained import open_model

from .conftest import Call

pytestmark = pytest.mark.integration

LENGTH, WIDTH, LAYERS, EPOCHS = 32, 32, 1, 4
TOKENIZERS = ("bytes", "bpe:320")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of two hundred words."""
    path, draw = tmp_path_factory.mktemp("source") / "words.jsonl", random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(3, 8))) for _ in range(50)]
    path.write_text("\n".join(json.dumps({"text": " ".join(draw.choices(words, k=40))}) for _ in range(60)))
    return path


@pytest.fixture
def trained(crossover: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, TrialRecord]:
    """A run on all training text with each tokenizer; validation is of all held-out text."""
    monkeypatch.chdir(tmp_path)
    records = {}
    for tokenizer in TOKENIZERS:
        name = tokenizer.partition(":")[0]
        done = crossover("data", "prepare", source, "--output", name, "--tokenizer", tokenizer)
        assert done.code == 0, done.err
        config = {
            "data": {
                "corpus": name,
                "unique_tokens": open_corpus(name).num_training_tokens(),
                "sequence_length": LENGTH,
            },
            "model": {"num_layers": LAYERS, "width": WIDTH},
            "objective.name": "autoregressive",
            "optimizer.learning_rate": 1e-2,
            "schedule": {"epochs": EPOCHS, "warmup_steps": 5},
            "evaluation": {"validation_windows": 4000, "test_windows": 4000, "ratio": 6},
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
        done = crossover("train", f"{name}.yaml", "--output", f"runs/{name}")
        assert done.code == 0, done.err
        records[name] = TrialRecord(Path("runs", name).resolve())
    return records


def test_a_bpe_run_is_measured_like_one_of_bytes(trained: dict[str, TrialRecord]) -> None:
    assert_bits_are_of_the_same_text(trained)
    for name, record in trained.items():
        assert_flops_are_of_the_saved_weights(open_corpus(name).vocabulary, record)


def assert_bits_are_of_the_same_text(trained: dict[str, TrialRecord]) -> None:
    manifests = {name: open_corpus(name).manifest for name in trained}
    held_out = {name: manifest.splits["validation"] for name, manifest in manifests.items()}
    assert held_out["bytes"].documents_sha256 == held_out["bpe"].documents_sha256
    best = {}
    for name, record in trained.items():
        row, end, windows = record.evaluations()[-1], record.end(), record.window_facts("validation")
        assert end is not None and end.best_bits_per_byte is not None
        nats, num_bytes = float(record.window_nats(row.step).sum(dtype=np.float64)), held_out["bytes"].num_bytes
        assert int(windows.num_bytes.sum()) == num_bytes, "all text is scored, and each byte of it once"
        assert row.val_bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
        num_tokens = held_out[name].num_tokens + held_out[name].num_documents  # with separators
        assert row.val_loss == pytest.approx(nats / num_tokens, rel=1e-5)
        best[name] = end.best_bits_per_byte
    assert manifests["bpe"].num_text_tokens == 320
    assert held_out["bpe"].num_tokens < 0.6 * held_out["bytes"].num_tokens
    words = math.log2(50) / 6.4  # bits of one of fifty words, over the mean length of one and its space
    assert all(0.9 * words < bits < 3.0 for bits in best.values()), best
    assert best["bpe"] < best["bytes"], "at the same epochs the one whose tokens are nearly words has learned more"


def assert_flops_are_of_the_saved_weights(vocabulary: Vocabulary, record: TrialRecord) -> None:
    matrices = {key: weight for key, weight in open_model(record.path).model.named_parameters() if weight.dim() == 2}
    sizes = {key: weight.numel() for key, weight in matrices.items()}
    assert sizes.pop("embedding.weight") == WIDTH * vocabulary.num_input_tokens
    assert WIDTH * vocabulary.num_output_tokens in sizes.values(), "the head has an output a token"
    scores = LAYERS * 2 * 2 * WIDTH * (LENGTH + 1) / 2  # products with keys and with values, up to the diagonal
    forward = 2 * sum(sizes.values()) + scores
    row, facts = record.evaluations()[-1], record.facts()
    assert facts is not None and facts.num_params_active == sum(sizes.values())
    assert 0 <= row.tokens_seen - EPOCHS * row.unique_tokens < 16 * LENGTH, "it ends with the step that ends the epochs"
    assert row.train_flops == pytest.approx(3 * forward * row.tokens_seen, rel=1e-9)
    assert row.train_flops_6nd == 6 * sum(sizes.values()) * row.tokens_seen
