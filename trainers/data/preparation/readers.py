"""Documents of a file: the whole file, a line of JSON, or a row of Parquet.

A format is one class with `@register_format`. Large files are cut into parts that are read at once: JSON lines at byte
offsets (a part has the lines that begin in it), Parquet at row groups; a compressed file is one part. The number of a
broken line in the middle of a file is counted only when somebody is told of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from crossover.trainers.data.locations import InputFile, open_input
from crossover.trainers.data.sources import TextError
from crossover.trainers.errors import CorpusError

__all__ = ["FORMATS", "MAX_DOCUMENT_BYTES", "Columns", "Format", "Record", "Span", "format_of", "register_format"]

MAX_DOCUMENT_BYTES = 256 << 20  # a document is held in memory several times over
_BLOCK_BYTES = 4 << 20
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read, where the format has columns.

    Args:
        text: of the text.
        quality: of a number that says how good a document is; None: none is read.
    """

    text: str = "text"
    quality: str | None = None


@dataclass(frozen=True)
class Span:
    """A share of a file: byte offsets, or row groups; a file that cannot be cut is one span.

    Args:
        file: that is read.
        start: first byte or row group.
        stop: the one after the last.
        num_bytes: of the file, as a measure of work.
    """

    file: InputFile
    start: int
    stop: int
    num_bytes: int


@dataclass(frozen=True)
class Record:
    """A document as it stands in its file, not checked yet.

    Args:
        where: its place, in words.
        raw: its bytes.
        quality: its score, if one was asked for.
    """

    where: Callable[[], str]
    raw: bytes
    quality: float | None = None


class Format(ABC):
    """How the documents of a file are read."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    has_columns: ClassVar[bool] = True

    def spans(self, file: InputFile, size: int) -> list[Span]:
        """The file in shares of about `size` bytes."""
        return [Span(file, 0, file.size, file.size)]

    @abstractmethod
    def records(self, span: Span, columns: Columns) -> Iterator[Record | TextError]:
        """The documents of a share, in order; a broken one is an error in its place, and reading goes on.

        Raises:
            CorpusError: what no document can be blamed for, such as a column that is not there.
            OSError: the file cannot be read.
        """


FORMATS: list[Format] = []
_Class = TypeVar("_Class", bound=type[Format])


def register_format(format_class: _Class) -> _Class:
    """Makes a format known; the first whose suffix a file's name has reads it, and text has every name."""
    FORMATS.insert(0, format_class())
    return format_class


def format_of(name: str) -> Format:
    """The format of a file, by the suffix of its name before .gz or .zst."""
    path = name.partition("?")[0].lower() if "://" in name else name.lower()
    for suffix in _COMPRESSIONS:
        path = path.removesuffix(suffix)
    return next(known for known in FORMATS if path.endswith(known.suffixes))


def _compression(name: str) -> str | None:
    path = name.partition("?")[0].lower() if "://" in name else name.lower()
    return next((kind for suffix, kind in _COMPRESSIONS.items() if path.endswith(suffix)), None)


def _open(file: InputFile) -> Any:
    compression = _compression(file.name)
    source = open_input(file)
    return source if compression is None else pa.CompressedInputStream(source, compression)


@register_format
class _Text(Format):
    suffixes = ("",)
    has_columns = False

    def records(self, span: Span, columns: Columns) -> Iterator[Record | TextError]:
        name = span.file.name
        if columns.quality is not None:
            raise CorpusError(f"{name} is text and has no columns: --quality-column is for JSON lines and Parquet")
        blocks: list[bytes] = []
        size = 0
        try:
            with _open(span.file) as source:
                while block := source.read(_BLOCK_BYTES):
                    blocks.append(block)
                    size += len(block)
                    if size > MAX_DOCUMENT_BYTES:
                        large = f"{name} is more than {MAX_DOCUMENT_BYTES:,} bytes, too large for one document"
                        yield TextError(f"{large}: {_CUT}")
                        return
        except OSError as error:
            yield TextError(f"{name} {_unreadable(span.file, error)}")
            return
        yield Record(lambda: name, b"".join(blocks))


@register_format
class _JsonLines(Format):
    suffixes = (".jsonl", ".ndjson")

    def spans(self, file: InputFile, size: int) -> list[Span]:
        if _compression(file.name) is not None or file.size <= size:
            return [Span(file, 0, file.size, file.size)]
        count = -(-file.size // size)
        bounds = [file.size * place // count for place in range(count + 1)]
        return [Span(file, start, stop, stop - start) for start, stop in pairwise(bounds)]

    def records(self, span: Span, columns: Columns) -> Iterator[Record | TextError]:
        number = -1
        try:
            for number, line in enumerate(_lines(span)):
                if line and not line.isspace():
                    yield _record_of_line(line, _line_number(span, number), columns)
        except OSError as error:
            yield TextError(f"{_line_number(span, number + 1)()} {_unreadable(span.file, error)}")


def _lines(span: Span) -> Iterator[bytes]:
    """The lines that begin in a share, without their ends."""
    is_cut = _compression(span.file.name) is None
    begins_inside = is_cut and span.start > 0
    place, rest = span.start - 1 if begins_inside else 0, b""
    with _open(span.file) as source:
        if begins_inside:
            source.seek(place)
        while True:
            block = source.read(_BLOCK_BYTES)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if not block and rest:
                lines, rest = [rest], b""
            for line in lines:
                begin, place = place, place + len(line) + 1
                if begins_inside:  # what is before the first line end belongs to the share before
                    begins_inside = False
                elif is_cut and begin >= span.stop:
                    return
                else:
                    yield line
            if not block:
                return
            if len(rest) > MAX_DOCUMENT_BYTES:
                raise CorpusError(f"{span.file.name} has a line of more than {MAX_DOCUMENT_BYTES:,} bytes: {_CUT}")


def _line_number(span: Span, number: int) -> Callable[[], str]:
    """Where the line of that number (from 0) of a share is."""

    def words() -> str:
        before, left, last = 0, 0 if _compression(span.file.name) else span.start, b"\n"
        with open_input(span.file) as source:
            while left > 0 and (block := source.read(min(left, _BLOCK_BYTES))):
                before, left, last = before + block.count(b"\n"), left - len(block), block[-1:]
        first = before + (last != b"\n")  # a share that begins inside a line has the next one first
        return f"{span.file.name}, line {first + number + 1:,},"

    return words


def _record_of_line(line: bytes, where: Callable[[], str], columns: Columns) -> Record | TextError:
    try:
        content = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError as error:
        return TextError(
            f"{where()} is no UTF-8 text: byte 0x{line[error.start]:02x} at its byte {error.start}: {_MEND}"
        )
    except (ValueError, RecursionError) as error:
        return TextError(f"{where()} is no JSON ({error}): {_MEND}")
    if not isinstance(content, dict):
        return TextError(f"{where()} is no JSON object but {_kind(content)}: {_MEND}")
    return _record_of(content, where, columns)


@register_format
class _Parquet(Format):
    suffixes = (".parquet", ".pq")

    def spans(self, file: InputFile, size: int) -> list[Span]:
        metadata = _parquet(file).metadata
        num_groups, ends, held = metadata.num_row_groups, [0], 0
        for group in range(num_groups):
            held += metadata.row_group(group).total_byte_size
            if held >= size or group == num_groups - 1:
                ends.append(group + 1)
                held = 0
        return [Span(file, *pair, file.size * (pair[1] - pair[0]) // num_groups) for pair in pairwise(ends)]

    def records(self, span: Span, columns: Columns) -> Iterator[Record | TextError]:
        table = _parquet(span.file)
        names = [columns.text, *([columns.quality] if columns.quality else [])]
        for name in names:
            if name not in table.schema_arrow.names:
                raise _no_column(span.file.name, name, table.schema_arrow.names, columns)
        row = sum(table.metadata.row_group(group).num_rows for group in range(span.start))
        groups = list(range(span.start, span.stop))
        try:
            for batch in table.iter_batches(256, row_groups=groups, columns=names, use_threads=False):
                for content in batch.to_pylist():
                    row += 1
                    yield _record_of(content, _row(span.file.name, row), columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield TextError(f"{span.file.name}, row {row + 1:,}, {_unreadable(span.file, error)}")


def _row(name: str, row: int) -> Callable[[], str]:
    return lambda: f"{name}, row {row:,},"


def _parquet(file: InputFile) -> Any:
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(open_input(file))
    except (pa.ArrowException, OSError) as error:
        raise TextError(f"{file.name} {_unreadable(file, error)}") from None


def _record_of(content: dict[str, Any], where: Callable[[], str], columns: Columns) -> Record | TextError:
    if columns.text not in content:
        raise _no_column(where(), columns.text, list(content), columns)
    text = content[columns.text]
    if isinstance(text, bytes):
        raw = text
    elif isinstance(text, str):
        raw = text.encode("utf-8", "surrogatepass")  # refused or repaired like other bytes that are no UTF-8
    else:
        return TextError(f"{where()} has {_kind(text)} in column {columns.text!r}, and text is wanted: {_MEND}")
    if columns.quality is None:
        return Record(where, raw)
    if columns.quality not in content:
        raise _no_column(where(), columns.quality, list(content), columns)
    quality = content[columns.quality]
    if isinstance(quality, bool) or not isinstance(quality, int | float) or quality != quality:
        return TextError(
            f"{where()} has {_kind(quality)} in column {columns.quality!r}, and a number is wanted: {_MEND}"
        )
    return Record(where, raw, float(quality))


def _no_column(where: str, name: str, known: list[str], columns: Columns) -> CorpusError:
    option = "--text-column" if name == columns.text else "--quality-column"
    listed = ", ".join(known[:20]) or "none"
    return CorpusError(f"{where.rstrip(',')} has no column {name!r}, but {listed}: set {option}")


def _kind(value: object) -> str:
    shown = json.dumps(value, default=str)
    return {"NoneType": "null"}.get(type(value).__name__, shown if len(shown) < 40 else f"a {type(value).__name__}")


def _unreadable(file: InputFile, error: Exception) -> str:
    if "runcated" in str(error) and _compression(file.name):
        return f"ends too early: the compressed file is cut short. Get it again, or go on with {_SKIP}"
    reason = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({reason}): make it readable, leave it out, or go on with {_SKIP}"


_SKIP = "--errors skip, which leaves it out and counts it"
_MEND = f"mend it, or go on with {_SKIP}"
_CUT = f"cut it into several, or go on with {_SKIP}"
