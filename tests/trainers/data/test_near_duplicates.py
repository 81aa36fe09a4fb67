"""MinHash against the sets themselves, and what becomes of near-duplicates in a corpus."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from corpora import FRACTIONS, prepared, sentences, texts_in

from crossover.trainers.data import open_corpus
from crossover.trainers.data.preparation.near_duplicates import NUM_BINS, HeldOutIndex, signatures_of
from crossover.trainers.data.preparation.runs import key_of
from crossover.trainers.data.splitting import split_ranges

from .conftest import split_of


def shingles(text: str) -> set[str]:
    """The definition, written down a second time."""
    folded = "".join(letter for letter in text if letter.isascii() and letter.isalnum()).lower()
    return {folded[start : start + 16] for start in range(len(folded) - 15)}


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def changed(text: str, share: float, draw: random.Random) -> str:
    words = text.split()
    for place in draw.sample(range(len(words)), round(share * len(words))):
        words[place] = "".join(draw.choices("mnopqrst", k=5))
    return " ".join(words)


TEXTS = [text.encode("ascii", "ignore").decode() for text in sentences(60, words=250)]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2])
def test_equal_bins_estimate_the_jaccard_similarity(share: float) -> None:
    draw = random.Random(1)
    errors = []
    for text in TEXTS:
        other = changed(text, share, draw)
        a, b = signatures_of([text.encode(), other.encode()])
        errors.append(float((a == b).mean()) - jaccard(text, other))
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 1.3 * 0.5 / np.sqrt(NUM_BINS)


def test_a_signature_does_not_depend_on_what_stands_beside_the_text() -> None:
    raws = [text.encode() for text in sentences(300, words=200)]
    together = signatures_of(raws)
    assert np.array_equal(together, np.concatenate([signatures_of([raw]) for raw in raws]))
    assert np.array_equal(
        signatures_of([b"The same, text here and there!"]), signatures_of([b"the SAME text\nhere and there"])
    )


def test_the_index_finds_what_comparing_all_pairs_finds(tmp_path: Path) -> None:
    draw = random.Random(2)
    held_out = signatures_of([text.encode() for text in TEXTS])
    others = [changed(text, share, draw) for text in TEXTS for share in (0.0, 0.01, 0.03, 0.1, 0.3)]
    signatures = signatures_of([text.encode() for text in others])
    HeldOutIndex.build(tmp_path / "index", held_out)
    found = HeldOutIndex(tmp_path / "index", 0.8).is_near(signatures)
    expected = (signatures[:, None] == held_out[None]).mean(axis=2).max(axis=1) >= 0.8
    assert np.array_equal(found, expected) and 0 < expected.sum() < len(expected)


def test_short_texts_are_near_nothing(tmp_path: Path) -> None:
    HeldOutIndex.build(tmp_path / "index", signatures_of([b"short", b"", b"0123456789abcdef"]))
    index = HeldOutIndex(tmp_path / "index", 0.8)
    assert index.is_near(signatures_of([b"short", b"", b"0123456789ABCDEF!", b"other"])).tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert index.is_near(signatures_of([])).tolist() == []


def test_training_documents_near_held_out_ones_are_dropped_and_counted(tmp_path: Path) -> None:
    draw = random.Random(3)
    source = tmp_path / "source"
    source.mkdir()
    originals = [text.strip().encode() for text in TEXTS]
    copies = [changed(text, 0.01, draw).upper().encode() for text in TEXTS]
    for number, raw in enumerate([*originals, *copies]):
        (source / str(number)).write_bytes(raw)
    with_near = prepared(source, tmp_path / "all", near_duplicates=None)
    manifest = prepared(source, tmp_path / "kept")
    pairs = list(zip(originals, copies, strict=True))
    dropped = {
        one for pair in pairs for one, other in (pair, pair[::-1]) if split_of(one) == "training" != split_of(other)
    }
    assert len(dropped) > 5
    assert manifest.provenance.num_near_duplicates == len(dropped)
    assert manifest.provenance.num_near_duplicate_bytes == sum(map(len, dropped))
    assert f"{len(dropped)} training documents near a held-out one" in manifest.summary()
    assert texts_in(open_corpus(str(tmp_path / "kept"))) == {*originals, *copies} - dropped
    assert with_near.provenance.num_near_duplicates == 0
    for split in ("validation", "test"):
        assert manifest.splits[split] == with_near.splits[split]


def test_ranges_of_keys_are_the_split_of_each_hash() -> None:
    import hashlib

    ranges = split_ranges(FRACTIONS)
    for number in range(500):
        raw = str(number).encode()
        key = key_of(hashlib.sha256(raw).digest())
        assert [split for split, (first, last) in ranges.items() if first <= key < last] == [split_of(raw)]
