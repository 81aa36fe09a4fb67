"""Every kind of source gives the same corpus; every broken one gives one error that says where."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from corpora import contents, prepared, sentences, texts_in, write_parquet

from crossover.trainers.data import open_corpus
from crossover.trainers.data.locations import InputFile, list_inputs, local_input
from crossover.trainers.data.preparation.readers import Columns, Record, format_of
from crossover.trainers.errors import CorpusError

TEXTS = sentences(60)


def as_lines(texts: list[str], **columns: object) -> bytes:
    return b"".join(json.dumps({"text": text, **columns}).encode() + b"\n" for text in texts)


def _text_files(folder: Path) -> object:
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text)
    return folder


def _jsonl(folder: Path) -> object:
    (folder / "a.jsonl").write_bytes(as_lines(TEXTS))
    return folder / "a.jsonl"


def _gzip(folder: Path) -> object:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(as_lines(TEXTS[:30])) + gzip.compress(as_lines(TEXTS[30:])))
    return folder


def _zstd(folder: Path) -> object:
    (folder / "a.jsonl.zst").write_bytes(pa.compress(as_lines(TEXTS), codec="zstd", asbytes=True))
    return str(folder / "*.zst")


def _parquet(folder: Path) -> object:
    return write_parquet(folder / "a.parquet", {"number": list(range(60)), "text": list(TEXTS)})


def _mixed_folder(folder: Path) -> object:
    (folder / "one.txt").write_text(TEXTS[0])
    (folder / "deep").mkdir()
    (folder / "deep" / "some.jsonl").write_bytes(as_lines(TEXTS[1:20]))
    write_parquet(folder / "deep" / "rest.parquet", {"text": list(TEXTS[20:])})
    return str(folder / "**" / "*")


def _uri(folder: Path) -> object:
    _jsonl(folder)
    return f"file://{folder}/*.jsonl"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expected")
    (folder / "texts").mkdir()
    prepared(_text_files(folder / "texts"), folder / "corpus")
    return folder / "corpus"


@pytest.mark.parametrize("write", [_jsonl, _gzip, _zstd, _parquet, _mixed_folder, _uri])
def test_every_format_gives_the_same_corpus(write: Callable[[Path], object], expected: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    prepared(write(tmp_path / "source"), tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == contents(expected)
    assert texts_in(open_corpus(str(tmp_path / "corpus"))) == {text.encode() for text in TEXTS}


@pytest.mark.parametrize("size", [1, 7, 50, 333, 5000, 10**6])
def test_a_file_of_lines_read_in_shares_is_read_once(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + as_lines(TEXTS[:9]) + b"\n\r\n" + as_lines(TEXTS[9:20]).rstrip(b"\n"))
    reader = format_of(str(path))
    records = [record for span in reader.spans(local_input(path), size) for record in reader.records(span, Columns())]
    assert [record.raw.decode() for record in records if isinstance(record, Record)] == TEXTS[:20]
    lines = path.read_bytes().split(b"\n")
    for record in records:
        assert isinstance(record, Record)
        number = int(record.where().rpartition("line ")[2].rstrip(","))
        assert json.loads(lines[number - 1].removeprefix(b"\xef\xbb\xbf"))["text"] == record.raw.decode()


@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_a_parquet_file_read_in_shares_is_read_once(size: int, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": list(TEXTS)})
    reader = format_of(str(path))
    records = [record for span in reader.spans(local_input(path), size) for record in reader.records(span, Columns())]
    assert [record.raw.decode() for record in records if isinstance(record, Record)] == TEXTS
    assert [record.where() for record in records if isinstance(record, Record)][42] == f"{path}, row 43,"


def test_other_columns_are_read_where_they_are_named(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": 1, "body": text}).encode() + b"\n" for text in TEXTS)
    (tmp_path / "a.jsonl").write_bytes(lines)
    prepared(tmp_path / "a.jsonl", tmp_path / "corpus", columns=Columns("body"))
    assert texts_in(open_corpus(str(tmp_path / "corpus"))) == {text.encode() for text in TEXTS}


def _broken_line(lines: list[bytes]) -> None:
    lines[20] = b'{"text": "cut'


def _latin_line(lines: list[bytes]) -> None:
    lines[20] = '{"text": "größe"}'.encode("latin-1")


def _no_object(lines: list[bytes]) -> None:
    lines[20] = b'["text"]'


def _null(lines: list[bytes]) -> None:
    lines[20] = b'{"text": null}'


def _surrogate(lines: list[bytes]) -> None:
    lines[20] = b'{"text": "half \\ud83d"}'


def _nul(lines: list[bytes]) -> None:
    lines[20] = b'{"text": "a\\u0000b"}'


FAULTS = [
    (_broken_line, r"line 21, is no JSON \(Unterminated string"),
    (_latin_line, r"line 21, is no UTF-8 text: byte 0xf6 at its byte 12"),
    (_no_object, r'line 21, is no JSON object but \["text"\]'),
    (_null, "line 21, has null in column 'text'"),
    (_surrogate, "line 21, is no UTF-8 text: byte 0xed"),
    (_nul, "line 21, is no UTF-8 text: byte 0x00"),
]


@pytest.mark.parametrize(("damage", "says"), FAULTS)
def test_a_broken_line_is_refused_with_file_and_line(
    damage: Callable[[list[bytes]], None], says: str, tmp_path: Path
) -> None:
    lines = as_lines(TEXTS).splitlines()
    damage(lines)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(CorpusError, match=rf"a\.jsonl, {says}.*--errors skip"):
        prepared(tmp_path / "a.jsonl", tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    manifest = prepared(tmp_path / "a.jsonl", tmp_path / "corpus", errors="skip")
    assert manifest.provenance.num_skipped == 1 and "line 21" in (manifest.provenance.first_skipped or "")
    assert "1 that could not be read" in manifest.summary()
    assert len(texts_in(open_corpus(str(tmp_path / "corpus")))) == 59


@pytest.mark.parametrize(("name", "keep"), [("a.jsonl.gz", -40), ("a.jsonl.zst", -40), ("a.txt.gz", -4)])
def test_a_compressed_file_cut_short_is_refused_and_can_be_skipped(name: str, keep: int, tmp_path: Path) -> None:
    lines = as_lines(TEXTS)
    whole = gzip.compress(lines) if name.endswith("gz") else pa.compress(lines, codec="zstd", asbytes=True)
    (tmp_path / name).write_bytes(whole[:keep])
    (tmp_path / "b.jsonl").write_bytes(as_lines(sentences(60, seed=1)))
    sources = [tmp_path / name, tmp_path / "b.jsonl"]
    with pytest.raises(CorpusError, match=rf"{name}.* ends too early: the compressed file is cut short"):
        prepared(sources, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
    assert prepared(sources, tmp_path / "corpus", errors="skip").provenance.num_skipped == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("columns", [Columns("txt"), Columns("text", "score")])
def test_a_column_that_is_not_there_is_named_beside_those_that_are(
    suffix: str, columns: Columns, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_lines(TEXTS, url="x"))
    write_parquet(tmp_path / "a.parquet", {"text": list(TEXTS), "url": ["x"] * 60})
    name, option = ("txt", "--text-column") if columns.quality is None else ("score", "--quality-column")
    with pytest.raises(CorpusError, match=rf"a\.{suffix}.* has no column '{name}', but text, url: set {option}"):
        prepared(tmp_path / f"a.{suffix}", tmp_path / "corpus", columns=columns, errors="skip")


def test_a_column_of_files_without_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(CorpusError, match="no source has columns"):
        prepared(tmp_path / "a.txt", tmp_path / "corpus", columns=Columns("body"))
    with pytest.raises(CorpusError, match="is text and has no columns"):
        prepared(tmp_path / "a.txt", tmp_path / "corpus", columns=Columns("text", "score"))


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(CorpusError, match=r"a\.parquet cannot be read"):
        prepared(tmp_path / "a.parquet", tmp_path / "corpus")


@pytest.mark.parametrize("value", ["good", None, True, float("nan")])
def test_a_score_that_is_no_number_is_refused(value: object, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_lines(TEXTS[:5], score=1) + as_lines(TEXTS[5:6], score=value))
    with pytest.raises(CorpusError, match=r"line 6, has .* in column 'score', and a number is wanted"):
        prepared(tmp_path / "a.jsonl", tmp_path / "corpus", columns=Columns("text", "score"))


@pytest.mark.parametrize("source", ["nowhere/*.txt", "file:///nowhere/x", "ftp://host/file"])
def test_a_source_that_names_nothing_is_refused(source: str) -> None:
    with pytest.raises(CorpusError, match=r"matches nothing|names no file|cannot be opened"):
        list_inputs([source])


def test_globs_of_uris_stay_in_their_folder_unless_they_are_double(tmp_path: Path) -> None:
    for name in ("a.txt", "in/b.txt", "in/deep/c.txt", ".hidden/d.txt", "in/e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    def found(pattern: str) -> list[str]:
        return [Path(file.name).name for file in list_inputs([f"file://{tmp_path}{pattern}"])]

    assert found("") == found("/") == ["a.txt", "b.txt", "c.txt", "e.md"]
    assert found("/*.txt") == ["a.txt"]
    assert found("/in/*.txt") == ["b.txt"]
    assert found("/**/*.txt") == ["a.txt", "b.txt", "c.txt"]
    assert found("/in/[be].*") == ["b.txt", "e.md"]


def test_a_format_is_known_by_its_suffix_before_that_of_compression() -> None:
    names = {"x.jsonl": "_JsonLines", "x.NDJSON.zst": "_JsonLines", "x.parquet": "_Parquet", "x.txt.gz": "_Text"}
    assert {name: type(format_of(name)).__name__ for name in names} == names
    assert type(format_of("s3://bucket/x.jsonl.gz?region=x")).__name__ == "_JsonLines"
    assert InputFile("x", 1).modified == ""
