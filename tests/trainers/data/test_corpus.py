from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from crossover.trainers.data import Vocabulary, open_corpus, prepare_corpus
from crossover.trainers.data import corpus as corpus_module
from crossover.trainers.errors import CorpusError

from .conftest import FRACTIONS, write_texts


@pytest.fixture
def folder(texts: Path, tmp_path: Path) -> Path:
    prepare_corpus([texts], tmp_path / "corpus", fractions=FRACTIONS)
    return tmp_path / "corpus"


def test_a_corpus_of_bytes_has_257_outputs_and_259_inputs(folder: Path) -> None:
    vocabulary = open_corpus(str(folder)).vocabulary
    assert (vocabulary.separator, vocabulary.begin, vocabulary.mask) == (256, 257, 258)
    assert (vocabulary.num_output_tokens, vocabulary.num_input_tokens) == (257, 259)


def test_special_tokens_follow_the_text_of_any_vocabulary() -> None:
    tiny = Vocabulary(num_text_tokens=3)
    assert (tiny.separator, tiny.begin, tiny.mask, tiny.num_output_tokens, tiny.num_input_tokens) == (3, 4, 5, 4, 6)


def test_an_altered_shard_is_refused_with_both_hashes(folder: Path) -> None:
    shard = folder / "validation-00000.arrow"
    expected = hashlib.sha256(shard.read_bytes()).hexdigest()
    open_corpus(str(folder))
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(CorpusError) as caught:
        open_corpus(str(folder))
    message = str(caught.value)
    assert str(shard) in message and expected in message and hashlib.sha256(raw).hexdigest() in message
    assert "delete the folder and prepare the corpus again" in message


def test_a_truncated_shard_is_refused_by_its_size(folder: Path) -> None:
    shard = folder / "test-00000.arrow"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(CorpusError, match=rf"test-00000\.arrow has {size - 8} bytes, not {size}"):
        open_corpus(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "training-00000.arrow").unlink()
    with pytest.raises(CorpusError, match=r"training-00000\.arrow cannot be read"):
        open_corpus(str(folder))


def test_an_unchanged_shard_is_hashed_once_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_corpus(str(folder))

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was hashed again")

    monkeypatch.setattr(corpus_module, "file_sha256", refuse)
    open_corpus(str(folder))


def test_shards_are_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(30):
        (tmp_path / "texts" / str(number)).write_text(f"{number}" * 20_000)
    prepare_corpus([tmp_path / "texts"], tmp_path / "corpus", fractions=FRACTIONS)
    before = pa.total_allocated_bytes()
    opened = open_corpus(str(tmp_path / "corpus"))
    split = opened.split("training")
    assert pa.total_allocated_bytes() - before < 10_000 < opened.manifest.splits["training"].num_bytes
    assert not split.read(0, 10).flags.writeable


def _set(path: list[str], value: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        place = manifest
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(["format_version"], 99), "format_version 99, this program reads 1"),
        (_set(["format_version"], None), "format_version None"),
        (_set(["piece_tokens"], 0), r"piece_tokens: .*greater than 0 \(got 0\)"),
        (_set(["tokenizer"], "words"), "tokenizer 'words' needs tokenizer_sha256"),
        (_set(["surprise"], 1), "surprise: there is no such name"),
        (_set(["splits"], {}), "the training split is missing"),
        (_set(["shards"], []), "the training split is missing"),
        (_set(["shards"], [{"file": "../x.arrow", "split": "test", "file_bytes": 1, "sha256": ""}]), "file: .*pattern"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=message):
        open_corpus(str(folder))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object_is_refused(folder: Path, raw: bytes) -> None:
    (folder / "manifest.json").write_bytes(raw)
    with pytest.raises(CorpusError, match=r"manifest\.json .*prepare the corpus again"):
        open_corpus(str(folder))


@pytest.mark.parametrize("name", ["python-stlib", "python_stdlib", "pyhton-stdlib"])
def test_a_near_name_is_suggested(name: str) -> None:
    with pytest.raises(CorpusError, match="did you mean 'python-stdlib'"):
        open_corpus(name)


def test_a_near_folder_is_suggested(folder: Path) -> None:
    with pytest.raises(CorpusError, match=f"did you mean '{folder}'"):
        open_corpus(f"{folder}s")


def test_a_name_near_to_nothing_is_told_how_to_prepare_one() -> None:
    with pytest.raises(CorpusError, match="python-stdlib: prepare one with `crossover data prepare"):
        open_corpus("zzz")


def test_text_that_was_not_prepared_is_told_how(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 3)
    for path in (texts, texts / "0.txt"):
        with pytest.raises(CorpusError, match=f"no prepared corpus .*`crossover data prepare {path} --output DIR`"):
            open_corpus(str(path))


@pytest.mark.parametrize("name", ["", "a\0b", "a\0/b", "x" * 5000, "x/" * 3000, "~", "/", "[*", "\udcff", "..", "\n"])
def test_a_name_that_is_no_path_is_one_clear_error(name: str) -> None:
    with pytest.raises(CorpusError):
        open_corpus(name)
