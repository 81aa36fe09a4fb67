"""Corpora and sources in a real S3-protocol server on loopback, which throttles and drops connections when told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pa_fs
import pytest
from corpora import contents, prepared, sentences

from crossover.trainers.data import Corpus, TrainingSubset, locations, open_corpus
from crossover.trainers.data.corpus import vocabulary_of
from crossover.trainers.errors import CorpusError

pytest.importorskip("moto", reason="needs moto's S3 server")


class Store:
    """moto's server behind a gate that answers some requests itself."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self.requests: list[str] = []
        self.gate: Callable[[int, dict[str, Any]], str | None] = lambda number, environ: None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.thread.start()
        place = f"127.0.0.1:{self._server.server_port}"
        self.query = f"endpoint_override={place}&scheme=http&region=us-east-1&allow_bucket_creation=true"

    def uri(self, path: str) -> str:
        return f"s3://{path}?{self.query}"

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        match self.gate(len(self.requests), environ):
            case "throttle":
                start("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
            case "drop":
                environ["werkzeug.socket"].close()
                return []
            case "cut":  # half of what was promised
                body = b"".join(self._app(environ, lambda *given: None))
                start("206 Partial Content", [("Content-Length", str(len(body)))])
                return iter([body[: len(body) // 2]])
        return self._app(environ, start)

    def close(self) -> None:
        self._server.shutdown()
        self.thread.join()


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ACCESS_KEY_ID", "test")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = Store()
        yield store
        store.close()


@pytest.fixture(autouse=True)
def open_gate(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.gate = lambda number, environ: None
    store.requests.clear()
    monkeypatch.setattr(locations, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def here(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus here, the same in the store, and its sources there."""
    folder = tmp_path_factory.mktemp("here")
    lines = [json.dumps({"text": text}) for text in sentences(80)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    prepared(folder / "a.jsonl", folder / "corpus", tokenizer="bpe:300", quality="compression")
    system, _ = pa_fs.FileSystem.from_uri(store.uri("bucket"))
    system.create_dir("bucket")
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
