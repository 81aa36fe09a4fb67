"""Corpora and sources in a real S3-protocol server on loopback, which throttles and drops connections when told to."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pa_fs
import pytest
from corpora import contents, prepared, sentences
from s3_server import Store

from crossover.trainers.data import Corpus, TrainingSubset, locations, open_corpus
from crossover.trainers.data.corpus import vocabulary_of
from crossover.trainers.errors import CorpusError

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def quick_tries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.open()
    monkeypatch.setattr(locations, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def here(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus here, the same in the store, and its sources there."""
    folder = tmp_path_factory.mktemp("here")
    lines = [json.dumps({"text": text}) for text in sentences(80)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    prepared(folder / "a.jsonl", folder / "corpus", tokenizer="bpe:300", quality="compression")
    system, _ = pa_fs.FileSystem.from_uri(store.uri("bucket"))
    pa_fs.copy_files(str(folder), "bucket/data", destination_filesystem=system)
    return folder


def test_sources_in_a_store_give_the_same_corpus(store: Store, here: Path, tmp_path: Path) -> None:
    for pattern in ("bucket/data/*.jsonl", "bucket/data/a.jsonl"):
        prepared(store.uri(pattern), tmp_path / pattern[-7:], tokenizer="bpe:300", quality="compression")
        assert contents(tmp_path / pattern[-7:]) == contents(here / "corpus")


def test_a_corpus_in_a_store_is_fetched_once_and_read_mapped(store: Store, here: Path, tmp_path: Path) -> None:
    uri = store.uri("bucket/data/corpus")
    first = open_corpus(uri, tmp_path)
    assert isinstance(first, Corpus)
    assert first.folder.is_relative_to(tmp_path) and contents(first.folder) == contents(here / "corpus")
    store.requests.clear()
    second = open_corpus(uri, tmp_path)
    assert {request.rpartition("/")[2] for request in store.requests} == {"manifest.json"}
    assert (
        second.location == second.name == uri and second.content_hash == open_corpus(str(here / "corpus")).content_hash
    )
    subset = TrainingSubset(second, 2000, 50, seed=0)
    assert subset.tokens_hash == TrainingSubset(open_corpus(str(here / "corpus")), 2000, 50, seed=0).tokens_hash
    assert not second.split("training").document(0).flags.owndata
    assert vocabulary_of(uri) == first.vocabulary


def test_many_at_once_fetch_each_file_once(store: Store, here: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: open_corpus(store.uri("bucket/data/corpus"), tmp_path), range(8)))
    assert len({str(corpus.folder) for corpus in opened if isinstance(corpus, Corpus)}) == 1
    reads = [request for request in store.requests if request.startswith("GET") and request.endswith(".arrow")]
    assert len(reads) == len(set(reads)) == 4


@pytest.mark.parametrize("trouble", ["throttle", "drop", "cut"])
def test_trouble_that_passes_costs_time_only(trouble: str, store: Store, here: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    seen: list[str] = []

    def gate(number: int, environ: dict[str, Any]) -> str | None:
        is_read = environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" in environ
        if (trouble == "cut" and not is_read) or draw.random() > 0.4:
            return None
        seen.append(environ["PATH_INFO"])
        return trouble

    store.gate = gate
    corpus = open_corpus(store.uri("bucket/data/corpus"), tmp_path)
    assert isinstance(corpus, Corpus)
    assert contents(corpus.folder) == contents(here / "corpus")
    assert seen


def test_a_store_that_stays_away_is_one_message_and_the_next_try_goes_on(
    store: Store, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "_ATTEMPTS", 2)
    store.gate = lambda number, environ: "throttle" if "training" in environ["PATH_INFO"] else None
    with pytest.raises(CorpusError, match=r"training-00000\.arrow.* cannot be read in 2 tries"):
        open_corpus(store.uri("bucket/data/corpus"), tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))
    store.gate = lambda number, environ: None
    open_corpus(store.uri("bucket/data/corpus"), tmp_path)


def test_a_corpus_that_is_damaged_in_the_store_is_refused(store: Store, here: Path, tmp_path: Path) -> None:
    system, _ = pa_fs.FileSystem.from_uri(store.uri("bucket"))
    pa_fs.copy_files(str(here / "corpus"), "bucket/bad", destination_filesystem=system)
    with system.open_output_stream("bucket/bad/validation-00000.arrow") as file:
        file.write(b"other")
    with pytest.raises(CorpusError, match=r"validation-00000\.arrow.* came with sha256 .* damaged in the store"):
        open_corpus(store.uri("bucket/bad"), tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_folder_without_a_corpus_is_refused(store: Store, here: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"is no prepared corpus \(there is no manifest\.json in it\)"):
        open_corpus(store.uri("bucket/nowhere"), tmp_path)


def test_a_copy_that_was_altered_is_refused(store: Store, here: Path, tmp_path: Path) -> None:
    corpus = open_corpus(store.uri("bucket/data/corpus"), tmp_path)
    assert isinstance(corpus, Corpus)
    path = corpus.folder / "test-00000.arrow"
    raw = bytearray(path.read_bytes())
    raw[-30] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CorpusError, match=r"test-00000\.arrow has sha256"):
        open_corpus(store.uri("bucket/data/corpus"), tmp_path)
