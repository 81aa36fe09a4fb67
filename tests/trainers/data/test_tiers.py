"""Tiers of quality: what scores, equal tokens, nested budgets inside a tier, and a run that reads one tier."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from corpora import contents, prepared, sentences

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Corpus, TrainingSubset, held_out_windows, open_corpus
from crossover.trainers.data.preparation.language_model import bits_per_byte, train_model
from crossover.trainers.data.preparation.readers import Columns
from crossover.trainers.data.tiers import tier_names
from crossover.trainers.errors import CorpusError
from crossover.trainers.identity import trial_identity

TEXTS = sentences(150)
SCORE = {text.encode(): (number * 37) % 150 / 10 for number, text in enumerate(TEXTS)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.jsonl"
    lines = [json.dumps({"text": raw.decode(), "score": score}) for raw, score in SCORE.items()]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("tiers") / "corpus"
    prepared(source, folder, columns=Columns("text", "score"), piece_tokens=128)
    opened = open_corpus(str(folder))
    assert isinstance(opened, Corpus)
    return opened


def documents(corpus: Corpus) -> list[bytes]:
    tokens = corpus.split("training")
    return [bytes(tokens.read(*pair).astype("u1")) for pair in pairwise(tokens.document_offsets.tolist())]


def test_tiers_order_by_score_and_have_equal_tokens(corpus: Corpus) -> None:
    quality = corpus.manifest.quality
    assert quality is not None and quality.scorer == "column score"
    assert [tier.name for tier in quality.tiers] == tier_names(3) == ["low", "medium", "high"]
    tokens = [tier.num_tokens for tier in quality.tiers]
    longest = max(len(text) for text in documents(corpus)) + 8
    assert sum(tokens) == corpus.num_training_tokens() and max(tokens) - min(tokens) <= longest
    texts = documents(corpus)
    scores = [
        [SCORE[text] for text, inside in zip(texts, corpus.is_in_tier(tier.name), strict=True) if inside]
        for tier in quality.tiers
    ]
    assert [(min(some), max(some), len(some)) for some in scores] == [
        (tier.lowest, tier.highest, tier.num_documents) for tier in quality.tiers
    ]
    assert max(scores[0]) < min(scores[1]) and max(scores[1]) < min(scores[2])


@pytest.mark.parametrize("tier", ["low", "high"])
def test_budgets_are_nested_inside_a_tier_and_hold_its_text_only(corpus: Corpus, tier: str) -> None:
    streams = []
    for unique in (512, 1024, corpus.num_training_tokens(tier)):
        subset = TrainingSubset(corpus, unique, 64, seed=3, tier=tier)
        reads = {tuple(row) for row in subset.batch(0, subset.num_sequences, 0).tokens_BL.tolist()}
        streams.append(reads)
    assert streams[0] <= streams[1] <= streams[2]
    inside = corpus.is_in_tier(tier)
    text = b"\0".join(one for one, is_in in zip(documents(corpus), inside, strict=True) if is_in)
    for row in streams[1]:
        for piece in bytes(min(token, 256) if token < 256 else 0 for token in row).split(b"\0"):
            assert piece in text


def test_held_out_text_is_of_all_tiers(source: Path, corpus: Corpus, tmp_path: Path) -> None:
    prepared(source, tmp_path / "plain", piece_tokens=128)
    plain = open_corpus(str(tmp_path / "plain"))
    windows = [held_out_windows(one, "validation", 64, 20, seed=0) for one in (plain, corpus)]
    assert windows[0].content_hash == windows[1].content_hash
    assert plain.content_hash != corpus.content_hash


def test_a_tier_that_is_not_there_is_refused(corpus: Corpus, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"data\.tier = best, but the tiers of corpus .* are low, medium, high"):
        corpus.num_training_tokens("best")
    most = corpus.num_training_tokens("low")
    with pytest.raises(CorpusError, match=rf"has {most:,} training tokens of tier low"):
        TrainingSubset(corpus, most + 1, 64, seed=0, tier="low")
    prepared(source, tmp_path / "plain")
    with pytest.raises(CorpusError, match=r"has no tiers of quality: prepare it with --quality"):
        TrainingSubset(open_corpus(str(tmp_path / "plain")), 999, 64, seed=0, tier="low")


def test_compression_is_the_compressed_share_of_each_text(source: Path, tmp_path: Path) -> None:
    prepared(source, tmp_path / "corpus", quality="compression", tiers=4)
    opened = open_corpus(str(tmp_path / "corpus"))
    assert isinstance(opened, Corpus) and opened.manifest.quality is not None
    batch = pa.ipc.open_file(tmp_path / "corpus" / "quality.arrow").get_batch(0)
    expected = [len(zlib.compress(text)) / len(text) for text in documents(opened)]
    assert np.allclose(batch.column("score").to_numpy(), expected)
    assert [tier.name for tier in opened.manifest.quality.tiers] == ["q1", "q2", "q3", "q4"]


def test_a_language_model_ranks_what_is_unlike_its_text_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossover.trainers.data.preparation import language_model

    monkeypatch.setattr(language_model, "_STEPS", 25)
    train_model([text.encode() for text in TEXTS], tmp_path / "model.safetensors")
    known = [text.encode() for text in sentences(8, seed=9)]
    noise = [bytes(np.random.default_rng(seed).integers(1, 128, 300, dtype=np.uint8)) for seed in range(8)]
    bits = bits_per_byte(tmp_path / "model.safetensors", [*known, *noise])
    assert bits[:8].max() < bits[8:].min()
    alone = bits_per_byte(tmp_path / "model.safetensors", known[3:4])
    assert alone[0] == pytest.approx(bits[3], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quality": "compression", "columns": Columns("text", "score")}, "are both set: set one"),
        ({"quality": "taste"}, "there is no scorer 'taste': --quality is one of compression, language_model"),
        ({"quality": "compression", "tiers": 1}, "tiers is 1 and must be at least 2"),
        ({"quality": "compression", "tiers": 99}, "tiers of equal tokens cannot be cut"),
        ({"near_duplicates": 0.2}, r"near_duplicates is 0\.2 and must be 0\.5 to 1"),
    ],
)
def test_settings_that_make_no_tiers_are_refused(
    settings: dict[str, object], says: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=says):
        prepared(source, tmp_path / "corpus", **settings)
    assert not any(tmp_path.iterdir())


def trial(**changes: object) -> TrialConfig:
    return config_from_dotted(
        {
            "data.corpus": "x",
            "data.unique_tokens": 999,
            "model.size": "400k",
            "objective.name": "autoregressive",
            "schedule.epochs": 1,
        }
        | changes
    )


def test_a_tier_makes_another_trial_and_none_the_same_as_before_there_were_tiers() -> None:
    assert trial_identity(trial(), "hash") == trial_identity(trial(**{"data.tier": None}), "hash")
    assert trial_identity(trial(), "hash") != trial_identity(trial(**{"data.tier": "low"}), "hash")


def test_the_same_tiers_from_the_same_text(source: Path, corpus: Corpus, tmp_path: Path) -> None:
    prepared(source, tmp_path / "again", columns=Columns("text", "score"), piece_tokens=128)
    assert contents(tmp_path / "again") == contents(corpus.folder)
