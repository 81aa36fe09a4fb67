"""Tokens come back as the text that they were, and every tokenizer's bytes add up to the text's."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from corpora import prepared, sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from crossover.trainers.data import TrainingSubset, held_out_windows, open_corpus
from crossover.trainers.data import byte_level as byte_level_words
from crossover.trainers.data.byte_level import WordIds, splits_at_words
from crossover.trainers.data.tokenizers import ByteTokenizer, HuggingFaceTokenizer, Tokenizer, token_type, train_bpe
from crossover.trainers.errors import CorpusError

TEXTS = [text.encode() for text in sentences(200)]
BPE = HuggingFaceTokenizer(train_bpe(TEXTS, 600), "bpe:600")


def metaspace() -> Library:
    """As SentencePiece's: spaces become part of tokens, unknown characters become bytes; offsets are characters."""
    library = Library(models.BPE(byte_fallback=True, unk_token="<unk>"))
    library.normalizer = normalizers.Replace(" ", "▁")
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    library.train_from_iterator(
        [text.decode() for text in TEXTS],
        trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False),
    )
    return library


METASPACE = HuggingFaceTokenizer(metaspace().to_str(), "metaspace.json")


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE, METASPACE])
@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=60).filter(lambda text: "▁" not in text))
def test_any_text_comes_back_and_its_bytes_add_up(tokenizer: Tokenizer, text: str) -> None:
    raw = text.encode()
    (tokens,) = tokenizer.encode([raw])
    assert tokenizer.decode(tokens) == raw
    assert tokenizer.token_bytes(raw, tokens).sum() == len(raw)
    assert len(tokens) == 0 or tokens.max() < tokenizer.num_text_tokens


LIBRARY = Library.from_str(BPE.content)
WHITE = " \n\t\r\x0b\x0c\x1c\x85\u00a0\u2003\u2028"


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.sampled_from(f"{WHITE}    ab'slt1_-.<|é漢😀\0")) | st.text())
def test_words_by_themselves_have_the_ids_of_the_whole_text(text: str) -> None:
    whole = LIBRARY.encode(text, add_special_tokens=False).ids
    words = WordIds(LIBRARY)
    for _ in range(2):
        assert [list(ids) for ids in words.encode([text] * 9)] == [whole] * 9
    assert BPE.encode([text.encode()])[0].tolist() == whole
    with mock.patch.object(byte_level_words, "_SLICE", 5):
        assert [list(ids) for ids in words.encode([text, text])] == [whole] * 2


def byte_level(**changes: object) -> dict[str, object]:
    return json.loads(BPE.content) | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"model": {"type": "Unigram"}},
        {"model": {"type": "BPE", "dropout": 0.1}},
        {"added_tokens": [{"content": "<|end|>"}]},
    ],
)
def test_other_tokenizers_are_given_the_whole_text(changes: dict[str, object]) -> None:
    assert splits_at_words(byte_level()) and not splits_at_words(byte_level(**changes))


def test_what_is_kept_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_level_words, "_MAX_CHARACTERS", 100)
    words = WordIds(LIBRARY)
    for number in range(50):
        text = f"word{'x' * number} " * 20
        (ids,) = words.encode([text])
        assert list(ids) == LIBRARY.encode(text).ids
        assert words.num_characters <= 100 + len(text)


def test_bytes_of_tokens_are_those_of_each_tokens_own_text() -> None:
    raw = "the größe of 😀 things".encode()
    (tokens,) = BPE.encode([raw])
    ends = np.cumsum(BPE.token_bytes(raw, tokens)).tolist()
    pieces = [raw[start:stop] for start, stop in pairwise([0, *ends])]
    assert b"".join(pieces) == raw
    vocabulary = {number: entry for entry, number in Library.from_str(train_bpe(TEXTS, 600)).get_vocab().items()}
    assert [len(piece) for piece in pieces] == [len(vocabulary[token]) for token in tokens.tolist()]


def test_a_vocabulary_learned_twice_is_the_same() -> None:
    assert train_bpe(TEXTS, 600) == train_bpe(iter(TEXTS), 600)


def test_special_ids_follow_any_vocabulary_and_fit_its_type() -> None:
    assert [token_type(size) for size in (256, 65_533, 65_534)] == [np.uint16, np.uint16, np.uint32]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_bytes(text)
    return folder


@pytest.fixture(scope="module")
def corpora(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    metaspace().save(str(folder / "tokenizer.json"))
    chosen = {"bytes": "bytes", "bpe": "bpe:600", "given": str(folder / "tokenizer.json")}
    for name, tokenizer in chosen.items():
        prepared(source, folder / name, tokenizer=tokenizer)
    return {name: folder / name for name in chosen}


def test_splits_are_the_same_documents_with_any_tokenizer(corpora: dict[str, Path]) -> None:
    manifests = [open_corpus(str(path)).manifest for path in corpora.values()]
    for split in ("training", "validation", "test"):
        assert len({manifest.splits[split].documents_sha256 for manifest in manifests}) == 1
        assert len({manifest.splits[split].num_bytes for manifest in manifests}) == 1
    assert len({manifest.content_hash for manifest in manifests}) == 3
    assert manifests[1].splits["training"].num_tokens < manifests[0].splits["training"].num_tokens / 1.5


@pytest.mark.parametrize("name", ["bytes", "bpe", "given"])
def test_a_model_that_knows_nothing_pays_the_same_bits_for_the_same_text(name: str, corpora: dict[str, Path]) -> None:
    """Of every split all text is scored; one that gives each byte one bit of cost must come to one bit per byte."""
    corpus = open_corpus(str(corpora[name]))
    windows = held_out_windows(corpus, "validation", 32, 10**6, seed=0)
    facts = corpus.manifest.splits["validation"]
    assert windows.num_bytes_W.sum() == facts.num_bytes
    assert windows.num_tokens_W.sum() == facts.num_tokens + facts.num_documents
    nats_W = windows.num_bytes_W * math.log(2)
    assert nats_W.sum() / math.log(2) / facts.num_bytes == pytest.approx(1)


@pytest.mark.parametrize("name", ["bpe", "given"])
def test_the_vocabulary_of_a_corpus_is_its_tokenizers(name: str, corpora: dict[str, Path]) -> None:
    corpus = open_corpus(str(corpora[name]))
    library = Library.from_file(str(corpora[name] / "tokenizer.json"))
    assert corpus.vocabulary.num_text_tokens == library.get_vocab_size()
    assert corpus.vocabulary.separator == library.get_vocab_size()
    subset = TrainingSubset(corpus, 2000, 50, seed=0)
    assert subset.batch(0, 40, order_seed=0).tokens_BL.max() == corpus.vocabulary.separator


def test_a_tokenizer_that_loses_text_is_refused(source: Path, tmp_path: Path) -> None:
    library = Library(models.WordLevel({"the": 0, "<unk>": 1}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.save(str(tmp_path / "words.json"))
    with pytest.raises(CorpusError, match=r"words\.json does not match this corpus: .* comes back from its tokens as"):
        prepared(source, tmp_path / "corpus", tokenizer=str(tmp_path / "words.json"))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("tokenizer", "says"),
    [
        ("bpe:", "write bpe: and the text tokens wanted"),
        ("bpe:200", "write bpe: and the text tokens wanted"),
        ("nowhere.json", "cannot be read"),
        ("broken.json", "is no tokenizer that the library"),
    ],
)
def test_what_is_no_tokenizer_is_refused(
    tokenizer: str, says: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{}")
    with pytest.raises(CorpusError, match=says):
        prepared(source, tmp_path / "corpus", tokenizer=tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.json"]
