"""Runs: the documents of one part of the sources, checked and sorted by their sha256, in an Arrow file.

Documents are ordered and split by hash, so a shard is one range of hashes: it is gathered from the runs by one binary
search each, and no text is ever merged or held whole. That is the external sort of a corpus of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossover.trainers.data.preparation.readers import Columns, Record, Span, format_of
from crossover.trainers.data.sources import ErrorPolicy, TextError, clean_text
from crossover.trainers.errors import CorpusError

__all__ = ["DIGEST_BYTES", "Documents", "Part", "PartFacts", "gathered", "key_of", "read_part"]

DIGEST_BYTES = 32
_RUN_BYTES = 32 << 20
_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.binary(DIGEST_BYTES), False),
        pa.field("text", pa.large_binary(), False),
        pa.field("quality", pa.float64(), False),
    ]
)


@dataclass(frozen=True)
class Part:
    """Work that one process reads: a share of a large file, or several small files.

    Args:
        number: its place among all parts, which orders equal documents.
        spans: what is read.
        folder: where its runs go.
        columns: what is read of files with columns.
        errors: what is done with what is no text.
    """

    number: int
    spans: tuple[Span, ...]
    folder: Path
    columns: Columns
    errors: ErrorPolicy

    @property
    def num_bytes(self) -> int:
        """Bytes of its files, as a measure of its work."""
        return sum(span.num_bytes for span in self.spans)


class PartFacts(BaseModel):
    """What was found in a part: written last, so a part that has them is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    num_runs: int
    num_documents: int = 0
    num_bytes: int = 0
    num_empty: int = 0
    num_replaced: int = 0
    num_characters_replaced: int = 0
    num_skipped: int = 0
    first_skipped: str | None = None


@dataclass(frozen=True)
class Documents:
    """Distinct documents in the order of their sha256.

    Args:
        digests: sha256 of each.
        texts: UTF-8 bytes of each.
        quality: score of each, NaN where none was read: float64 [D].
        num_duplicates: equal documents that were dropped; the first in the order of the sources is kept.
    """

    digests: list[bytes]
    texts: list[bytes]
    quality: NDArray[np.float64]
    num_duplicates: int


def key_of(digest: bytes) -> int:
    """The number by which documents are split and dealt to shards: the first 48 bits of the sha256."""
    return int.from_bytes(digest[:6], "big")


def read_part(part: Part) -> PartFacts:
    """Reads a part and writes its runs, unless that was done before.

    Raises:
        CorpusError: something is no text and `errors` is "strict"; or a column is not there.
    """
    facts_path = part.folder / f"{part.number:06d}.json"
    if facts_path.exists():
        return PartFacts.model_validate_json(facts_path.read_bytes())
    reading = _Reading(part)
    for span in part.spans:
        for record in _records(span, part):
            reading.take(record)
    reading.flush()
    facts = reading.facts()
    waiting = facts_path.with_suffix(".tmp")
    waiting.write_text(facts.model_dump_json())
    waiting.replace(facts_path)
    return facts


def _records(span: Span, part: Part) -> Iterator[Record | TextError]:
    try:
        yield from format_of(span.file.name).records(span, part.columns)
    except TextError as error:
        yield error


class _Reading:
    """The documents of a part on their way to its runs."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._waiting: list[tuple[bytes, bytes, float]] = []
        self._num_waiting = 0
        self._counts = dict.fromkeys(
            ("num_runs", "num_documents", "num_bytes", "num_empty", "num_replaced", "num_characters_replaced",
             "num_skipped"), 0
        )  # fmt: skip
        self._first_skipped: str | None = None

    def take(self, record: Record | TextError) -> None:
        try:
            text, num_replaced = self._text(record)
        except TextError as error:
            if self._part.errors != "skip":
                raise
            self._counts["num_skipped"] += 1
            self._first_skipped = self._first_skipped or str(error).partition("--errors")[0][:300]
            return
        if not text:
            self._counts["num_empty"] += 1
            return
        assert isinstance(record, Record)
        self._counts["num_replaced"] += num_replaced > 0
        self._counts["num_characters_replaced"] += num_replaced
        self._counts["num_documents"] += 1
        self._counts["num_bytes"] += len(text)
        quality = float("nan") if record.quality is None else record.quality
        self._waiting.append((hashlib.sha256(text).digest(), text, quality))
        self._num_waiting += len(text)
        if self._num_waiting >= _RUN_BYTES:
            self.flush()

    def _text(self, record: Record | TextError) -> tuple[bytes, int]:
        if isinstance(record, TextError):
            raise record
        try:
            return clean_text(record.raw, self._part.errors)
        except TextError as error:
            raise TextError(f"{record.where()} {error}") from None

    def flush(self) -> None:
        """Writes what waits as one run."""
        if not self._waiting:
            return
        self._waiting.sort(key=lambda document: document[0])
        digests, texts, quality = zip(*self._waiting, strict=True)
        self._waiting, self._num_waiting = [], 0
        batch = pa.record_batch(
            [pa.array(digests, pa.binary(DIGEST_BYTES)), pa.array(texts, pa.large_binary()), pa.array(quality)],
            schema=_SCHEMA,
        )
        del digests, texts, quality
        path = self._part.folder / f"{self._part.number:06d}-{self._counts['num_runs']:04d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_batch(batch)
        self._counts["num_runs"] += 1

    def facts(self) -> PartFacts:
        return PartFacts(number=self._part.number, first_skipped=self._first_skipped, **self._counts)


def gathered(runs: Sequence[Path], start: int, stop: int) -> Documents:
    """The distinct documents whose key lies in [start, stop).

    Args:
        runs: in the order of the sources.
        start: first key.
        stop: key after the last.

    Raises:
        CorpusError: a run is damaged.
    """
    rows: list[tuple[bytes, bytes, float]] = []
    for run in runs:
        rows += _rows(run, start, stop)
    rows.sort(key=lambda row: row[0])  # stable: of equal documents the first of the sources stays first
    kept = [row for place, row in enumerate(rows) if place == 0 or row[0] != rows[place - 1][0]]
    return Documents(
        [row[0] for row in kept], [row[1] for row in kept], np.array([row[2] for row in kept]), len(rows) - len(kept)
    )


def _rows(run: Path, start: int, stop: int) -> Iterator[tuple[bytes, bytes, float]]:
    try:
        with pa.memory_map(str(run)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
            keys = np.frombuffer(batch.column(0).buffers()[1], ">u8").reshape(-1, DIGEST_BYTES // 8)[:, 0] >> 16
            first, last = np.searchsorted(keys, np.array([start, stop], np.uint64)).tolist()
            part = batch.slice(first, last - first)
            yield from zip(*(column.to_pylist() for column in part.columns), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{run} is damaged ({error}): delete its folder, and run the same command again") from None
