"""Mixtures: how they are written, and that a run reads each corpus as often as weights and repeats say."""

from __future__ import annotations

import collections
import json
from pathlib import Path

import numpy as np
import pytest
from corpora import prepared, sentences

from crossover.trainers.config import DataConfig, config_from_dotted
from crossover.trainers.data import MixedCorpus, TrainingSubset, held_out_windows, open_corpus
from crossover.trainers.errors import ConfigError, CorpusError
from crossover.trainers.mixture import parse_mixture, unique_tokens_of

LENGTH = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("mixed")
    for seed, name in enumerate(("one", "two")):
        (place / f"{name}-text").mkdir()
        for number, text in enumerate(sentences(120, seed=seed)):
            marked = text.replace(" ", "1" if name == "one" else "2")
            (place / f"{name}-text" / str(number)).write_text(marked)
        prepared(place / f"{name}-text", place / name)
    return {name: place / name for name in ("one", "two")}


def mixture(folders: dict[str, Path], weights: tuple[float, float], repeats: tuple[int, int]) -> str:
    value = {
        str(folder): {"weight": weight, "repeats": times}
        for folder, weight, times in zip(folders.values(), weights, repeats, strict=True)
    }
    return DataConfig(corpus=value, unique_tokens=4096).corpus  # type: ignore[arg-type]


def test_a_mapping_and_a_line_are_the_same_mixture() -> None:
    data = DataConfig(corpus={"a/b": {"weight": 0.7}, "s3://c?d=e": {"weight": 0.3, "repeats": 4}}, unique_tokens=999)  # type: ignore[arg-type]
    assert data.corpus == "0.7 * a/b + 0.3 * s3://c?d=e x 4"
    assert DataConfig(corpus=data.corpus, unique_tokens=999) == data
    assert [(part.name, part.weight, part.repeats) for part in parse_mixture(data.corpus)] == [
        ("a/b", 0.7, 1),
        ("s3://c?d=e", 0.3, 4),
    ]
    assert parse_mixture("python-stdlib") == ()


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        ({"a": {"weight": 0.5}, "b": {"weight": 0.4}}, r"weights of a mixture must sum to 1, and 0\.5 \+ 0\.4 = 0\.9"),
        ("0.5 * a + 0.6 * b", r"must sum to 1, and 0\.5 \+ 0\.6 = 1\.1"),
        ({"a": {"weight": -1}, "b": {"weight": 2}}, "weight of corpus 'a' is -1 and must be a number above 0"),
        ({"a": {"weight": "much"}}, "is 'much' and must be a number"),
        ({"a": {"weight": 1, "repeats": 0}}, "repeats of corpus 'a' are 0 and must be a whole number"),
        ({"a": {"weight": 1, "repeats": 1.5}}, "repeats of corpus 'a' are 1.5"),
        ({"a": {"weigth": 1}}, "corpus 'a' of a mixture needs"),
        ("0.5 * a + 0.5 * a", "corpus 'a' is named twice"),
        ("0.5 * a + b", "'b' in mixture .* is no part of it"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(corpus: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config_from_dotted(
            {
                "data.corpus": corpus,
                "data.unique_tokens": 999,
                "model.size": "400k",
                "objective.name": "autoregressive",
                "schedule.epochs": 1,
            }
        )


@pytest.mark.parametrize(("weights", "repeats"), [((0.75, 0.25), (1, 1)), ((0.5, 0.5), (1, 4)), ((0.2, 0.8), (3, 2))])
def test_a_pass_reads_each_corpus_by_weight_and_its_text_by_repeats(
    folders: dict[str, Path], weights: tuple[float, float], repeats: tuple[int, int]
) -> None:
    corpus = open_corpus(mixture(folders, weights, repeats))
    subset = TrainingSubset(corpus, 4096, LENGTH, seed=0)
    needs = np.array(weights) / repeats
    unique = 4096 * needs / needs.sum()
    num_reads = round(float((unique * repeats).sum()) / LENGTH)
    batch = subset.batch(0, num_reads, order_seed=1)
    rows = collections.Counter(row.tobytes() for row in batch.tokens_BL.numpy())
    read = np.zeros(2)
    for raw, count in rows.items():
        row = np.frombuffer(raw, dtype=np.int64)
        which = 0 if (row == ord("1")).sum() > (row == ord("2")).sum() else 1
        read[which] += count
        assert count <= repeats[which]
    assert np.allclose(read / read.sum(), weights, atol=0.01)
    epochs = subset.epochs_by_corpus(num_reads, order_seed=1)
    assert list(epochs) == [str(folder) for folder in folders.values()]
    assert np.allclose(list(epochs.values()), repeats, rtol=0.02)


def test_epochs_are_counted_at_any_place_of_the_order(folders: dict[str, Path]) -> None:
    corpus = open_corpus(mixture(folders, (0.6, 0.4), (1, 2)))
    subset = TrainingSubset(corpus, 2048, LENGTH, seed=0)
    firsts = [subset.batch(cursor, 1, order_seed=0).tokens_BL[0].numpy() for cursor in range(400)]
    for cursor in (0, 1, 57, 128, 400):
        seen = [sum(int((row == ord(mark)).any()) for row in firsts[:cursor]) for mark in "12"]
        sequences = [round(share / LENGTH) for share in unique_tokens_of(parse_mixture(corpus.name), 2048)]
        found = list(subset.epochs_by_corpus(cursor, order_seed=0).values())
        assert np.allclose(np.array(found) * sequences, seen, atol=1.5)


def test_a_corpus_alone_is_what_it_was(folders: dict[str, Path]) -> None:
    corpus = open_corpus(str(folders["one"]))
    alone = TrainingSubset(corpus, 2000, LENGTH, seed=0)
    mixed = TrainingSubset(open_corpus(f"1 * {folders['one']}"), 2000, LENGTH, seed=0)
    assert alone.tokens_hash == mixed.tokens_hash
    assert (alone.batch(3, 9, 0).tokens_BL == mixed.batch(3, 9, 0).tokens_BL).all()
    assert alone.epochs_by_corpus(250, 0) == {str(folders["one"]): 2.0}


def test_budgets_are_nested_and_add_up() -> None:
    parts = parse_mixture("0.5 * a + 0.3 * b x 2 + 0.2 * c")
    before = [0, 0, 0]
    for unique in (999, 1000, 5000, 10**6):
        shares = unique_tokens_of(parts, unique)
        assert sum(shares) == unique
        assert all(now >= was - 2 for now, was in zip(shares, before, strict=True))
        before = shares


def test_held_out_windows_are_those_of_all_corpora_by_weight(folders: dict[str, Path]) -> None:
    corpus = open_corpus(mixture(folders, (0.75, 0.25), (1, 1)))
    windows = held_out_windows(corpus, "validation", LENGTH, 40, seed=0)
    marks = np.array([(row == ord("1")).sum() >= (row == ord("2")).sum() for row in windows.tokens_WL.numpy()])
    assert windows.num == 40 and 28 <= marks.sum() <= 31
    num_documents = corpus.parts[0].corpus.manifest.splits["validation"].num_documents
    assert (windows.document_W[:30] < num_documents).all() and (windows.document_W[30:] >= num_documents).all()


def test_identity_covers_contents_weights_and_repeats_but_no_path(folders: dict[str, Path], tmp_path: Path) -> None:
    texts = [
        mixture(folders, *settings) for settings in (((0.5, 0.5), (1, 1)), ((0.6, 0.4), (1, 1)), ((0.5, 0.5), (1, 2)))
    ]
    assert len({open_corpus(text).content_hash for text in texts}) == 3
    (tmp_path / "moved").symlink_to(folders["two"])
    moved = texts[0].replace(str(folders["two"]), str(tmp_path / "moved"))
    assert open_corpus(moved).content_hash == open_corpus(texts[0]).content_hash
    assert open_corpus(open_corpus(texts[0]).location).content_hash == open_corpus(texts[0]).content_hash


def test_a_budget_beyond_the_first_corpus_that_runs_out_is_refused(folders: dict[str, Path]) -> None:
    corpus = open_corpus(mixture(folders, (0.9, 0.1), (1, 1)))
    most = corpus.num_training_tokens()
    one = corpus.parts[0].corpus.num_training_tokens()
    assert abs(0.9 * most - one) <= 2
    TrainingSubset(corpus, most, LENGTH, seed=0)
    with pytest.raises(CorpusError, match=rf"data\.unique_tokens = {most + 5:,} but corpus .* has {most:,} training"):
        TrainingSubset(corpus, most + 5, LENGTH, seed=0)


def test_corpora_of_different_tokens_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    source = next(iter(folders.values())).with_name("one-text")
    prepared(source, tmp_path / "bpe", tokenizer="bpe:300")
    with pytest.raises(CorpusError, match=r"have different tokens and cannot be mixed"):
        open_corpus(f"0.5 * {folders['one']} + 0.5 * {tmp_path / 'bpe'}")
    assert isinstance(open_corpus(f"1 * {tmp_path / 'bpe'}"), MixedCorpus)


def test_rows_of_a_run_count_the_epochs_of_each_corpus(folders: dict[str, Path], tmp_path: Path) -> None:
    from crossover.trainers.loop import train
    from crossover.trainers.record import TrialRecord
    from crossover.trainers.run import AloneRun

    config = config_from_dotted(
        {
            "data.corpus": mixture(folders, (0.5, 0.5), (1, 4)),
            "data.unique_tokens": 2048,
            "data.sequence_length": LENGTH,
            "model.num_layers": 1,
            "model.width": 32,
            "objective.name": "autoregressive",
            "schedule.epochs": 2,
            "evaluation.validation_windows": 8,
            "evaluation.test_windows": 8,
            "execution.threads": 1,
        }
    )
    train(config, AloneRun(tmp_path / "run"))
    row = TrialRecord(tmp_path / "run").evaluations()[-1]
    epochs = list(json.loads(row.corpus_epochs or "").values())
    assert epochs[1] == pytest.approx(4 * epochs[0], rel=0.2)
    assert row.epoch == pytest.approx(2, rel=0.02)
