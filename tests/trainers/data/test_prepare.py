from __future__ import annotations

import shutil
import tempfile
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.trainers.data import Corpus, Manifest, open_corpus, prepare_corpus
from crossover.trainers.errors import CorpusError

from .conftest import FRACTIONS, PIECE_TOKENS, split_of, texts_of, write_texts


def prepared(source: Path, output: Path, **changes: object) -> Manifest:
    arguments = {"piece_tokens": PIECE_TOKENS, "fractions": FRACTIONS} | changes
    return prepare_corpus([source], output, **arguments)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def documents(corpus: Corpus, split: str) -> list[bytes]:
    tokens = corpus.split(split)  # type: ignore[arg-type]
    bounds = tokens.document_offsets.tolist()
    return [bytes(tokens.read(*pair).astype(np.uint8)) for pair in pairwise(bounds)]


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_each_split_holds_exactly_the_documents_whose_hash_falls_in_it(corpus: Corpus, texts: Path, split: str) -> None:
    expected = [text for text in texts_of(texts) if split_of(text) == split]
    assert sorted(documents(corpus, split)) == sorted(expected)
    facts = corpus.manifest.splits[split]  # type: ignore[index]
    assert facts.num_documents == len(expected)
    assert facts.num_tokens == facts.num_bytes == sum(map(len, expected))
    assert facts.num_pieces == sum(-(-len(text) // PIECE_TOKENS) for text in expected)


def test_pieces_are_full_but_for_the_last_of_each_document(corpus: Corpus) -> None:
    tokens = corpus.split("training")
    expected = []
    for length in np.diff(tokens.document_offsets).tolist():
        expected += [PIECE_TOKENS] * (length // PIECE_TOKENS) + [length % PIECE_TOKENS] * (length % PIECE_TOKENS > 0)
    assert np.diff(tokens.piece_offsets).tolist() == expected


def test_shards_are_a_matter_of_storage_only(corpus: Corpus, texts: Path, tmp_path: Path) -> None:
    prepared(texts, tmp_path / "one")
    single = open_corpus(str(tmp_path / "one"))
    assert len(corpus.manifest.shards) > 4 and len(single.manifest.shards) == 3
    assert single.manifest.content_hash == corpus.manifest.content_hash
    assert documents(single, "training") == documents(corpus, "training")
    assert np.array_equal(single.split("training").piece_offsets, corpus.split("training").piece_offsets)


def test_same_input_gives_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    prepared(texts, tmp_path / "a" / "corpus")
    prepared(texts, tmp_path / "b" / "corpus")
    assert contents(tmp_path / "a" / "corpus") == contents(tmp_path / "b" / "corpus")


def test_names_and_places_of_files_do_not_change_the_content(texts: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for number, text in enumerate(reversed(texts_of(texts))):
        (moved / f"{number}.md").write_bytes(text)
    here, there = prepared(texts, tmp_path / "here"), prepared(moved, tmp_path / "there")
    assert here.content_hash == there.content_hash
    assert here.shards == there.shards
    assert here.provenance != there.provenance


def test_a_document_that_is_added_moves_no_other(corpus: Corpus, texts: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(texts, grown)
    (grown / "0-first.txt").write_text("a new text")
    manifest = prepared(grown, tmp_path / "output")
    after = open_corpus(str(tmp_path / "output"))
    for split in ("training", "validation", "test"):
        added = {b"a new text"} if split_of(b"a new text") == split else set()
        assert set(documents(after, split)) == set(documents(corpus, split)) | added
    assert manifest.content_hash != corpus.manifest.content_hash


def test_the_length_of_pieces_is_part_of_the_content(corpus: Corpus, texts: Path, tmp_path: Path) -> None:
    assert prepared(texts, tmp_path / "output", piece_tokens=65).content_hash != corpus.manifest.content_hash


def test_duplicates_are_dropped_and_counted(corpus: Corpus, texts: Path, tmp_path: Path) -> None:
    doubled = tmp_path / "doubled"
    shutil.copytree(texts, doubled / "once")
    shutil.copytree(texts, doubled / "twice")
    manifest = prepared(doubled, tmp_path / "output")
    assert (manifest.provenance.num_files, manifest.provenance.num_duplicates) == (120, 60)
    assert "60 duplicates" in manifest.summary() and "repaired" not in manifest.summary()
    assert manifest.content_hash == corpus.manifest.content_hash


def test_a_file_that_is_no_utf8_stops_it_with_nothing_left_behind(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 60)
    (texts / "inner" / "bad.txt").write_bytes(b"good until here\xff")
    with pytest.raises(CorpusError, match=r"bad\.txt is no UTF-8 text: byte 0xff at byte offset 15"):
        prepared(texts, tmp_path / "output")
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_errors_replace_goes_on_counts_and_says_so(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 60)
    (texts / "bad.txt").write_bytes(b"a\xffb\0c")
    manifest = prepared(texts, tmp_path / "output", errors="replace")
    provenance = manifest.provenance
    assert (provenance.num_files_replaced, provenance.num_characters_replaced) == (1, 2)
    assert "repaired: 2 characters in 1 documents" in manifest.summary()
    corpus = open_corpus(str(tmp_path / "output"))
    stored = [text for split in FRACTIONS for text in documents(corpus, split)]
    assert "a\ufffdb\ufffdc".encode() in stored


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "blank.txt").touch()
    with pytest.raises(CorpusError, match=r"no text in .*empty \(1 files\)"):
        prepared(tmp_path / "empty", tmp_path / "output")


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no source was given"):
        prepare_corpus([], tmp_path / "output")


def test_too_few_documents_for_three_splits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("one long text " * 1000)
    with pytest.raises(CorpusError, match=r"split is empty: .* none of the 1 distinct documents"):
        prepared(tmp_path / "only.txt", tmp_path / "output")


@pytest.mark.parametrize(
    "fractions",
    [
        {"training": 0.9, "validation": 0.2, "test": 0.05},
        {"training": 1.0, "validation": 0.0, "test": 0.0},
        {"training": 0.9, "validation": 0.1},
        {"training": float("nan"), "validation": 0.5, "test": 0.5},
    ],
)
def test_fractions_that_are_no_shares_are_refused(texts: Path, tmp_path: Path, fractions: dict[str, float]) -> None:
    with pytest.raises(CorpusError, match="must be positive for training, validation, test, and sum to 1"):
        prepared(texts, tmp_path / "output", fractions=fractions)


@pytest.mark.parametrize("name", ["piece_tokens", "shard_bytes"])
def test_counts_below_one_are_refused(texts: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=f"{name} is 0 and must be at least 1"):
        prepared(texts, tmp_path / "output", **{name: 0})


def test_the_same_corpus_again_changes_nothing(texts: Path, tmp_path: Path) -> None:
    first = prepared(texts, tmp_path / "output")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "output").iterdir()}
    assert prepared(texts, tmp_path / "output") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "output").iterdir()} == before


@pytest.mark.parametrize("change", ["text", "piece_tokens"])
def test_another_corpus_is_never_overwritten(texts: Path, tmp_path: Path, change: str) -> None:
    prepared(texts, tmp_path / "output")
    before = contents(tmp_path / "output")
    source = write_texts(tmp_path / "others", 60, seed=1) if change == "text" else texts
    with pytest.raises(CorpusError, match="holds another corpus"):
        prepared(source, tmp_path / "output", piece_tokens=32 if change == "piece_tokens" else PIECE_TOKENS)
    assert contents(tmp_path / "output") == before


def test_an_output_folder_with_other_things_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError, match="with other things in it"):
        prepared(texts, tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_an_output_that_is_a_file_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="is a file"):
        prepared(texts, tmp_path / "file")


def test_an_output_below_a_file_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="cannot be written"):
        prepared(texts, tmp_path / "file" / "output")


def test_an_output_inside_a_source_is_refused(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 60)
    with pytest.raises(CorpusError, match="lies inside source"):
        prepared(texts, texts / "inner" / "output")


def test_an_empty_output_folder_is_filled(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    prepared(texts, tmp_path / "output")
    assert open_corpus(str(tmp_path / "output")).manifest.splits["training"].num_documents > 0


def test_several_at_once_leave_one_whole_corpus(texts: Path, tmp_path: Path) -> None:
    outcomes: list[object] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        try:
            outcomes.append(prepared(texts, tmp_path / "output"))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [open_corpus(str(tmp_path / "output")).manifest] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@settings(max_examples=25, deadline=None)
@given(raws=st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), max_size=30))
def test_any_bytes_give_a_whole_corpus_or_one_clear_error(raws: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, output = Path(scratch, "source"), Path(scratch, "output")
        source.mkdir()
        for number, raw in enumerate(raws):
            (source / str(number)).write_bytes(raw)
        try:
            prepared(source, output, errors="replace", piece_tokens=7, near_duplicates=None)
        except CorpusError:
            assert not output.exists()
            return
        corpus = open_corpus(str(output))
        stored = {text for split in FRACTIONS for text in documents(corpus, split)}
        assert stored == {raw.decode("utf-8", "replace").replace("\0", "\ufffd").encode() for raw in raws} - {b""}
