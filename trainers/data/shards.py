"""Arrow IPC shards: one row a piece, uint16 tokens and the document they belong to.

A shard is one record batch, so that a memory map of it is two flat arrays without a copy. A document never straddles
two shards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossover.trainers.data.manifest import ShardFacts, SplitName

__all__ = ["SplitTokens", "file_sha256", "write_shards"]

_SCHEMA = pa.schema([pa.field("tokens", pa.large_list(pa.uint16()), False), pa.field("document", pa.int64(), False)])


def write_shards(
    folder: Path, split: SplitName, documents: Iterable[NDArray[np.uint16]], piece_tokens: int, shard_tokens: int
) -> Iterator[ShardFacts]:
    """Writes the documents of a split, cut into pieces, and yields each shard as soon as it is on disk.

    Args:
        folder: where the files go.
        split: name of the split, which the files are named for.
        documents: tokens of each document, none empty; uint16.
        piece_tokens: most tokens of a piece.
        shard_tokens: tokens after which the next document opens a new shard; memory is bounded by it.
    """
    waiting: list[NDArray[np.uint16]] = []
    num_waiting = num_shards = first_document = 0
    for tokens in documents:
        waiting.append(tokens)
        num_waiting += len(tokens)
        if num_waiting >= shard_tokens:
            yield _write_shard(folder, split, num_shards, waiting, first_document, piece_tokens)
            num_shards, first_document = num_shards + 1, first_document + len(waiting)
            waiting, num_waiting = [], 0
    if waiting:
        yield _write_shard(folder, split, num_shards, waiting, first_document, piece_tokens)


def _write_shard(
    folder: Path,
    split: SplitName,
    number: int,
    documents: list[NDArray[np.uint16]],
    first_document: int,
    piece_tokens: int,
) -> ShardFacts:
    length_D = np.array([len(tokens) for tokens in documents])
    num_pieces_D = -(-length_D // piece_tokens)
    document_P = np.repeat(np.arange(len(documents)), num_pieces_D)
    length_P = np.full(len(document_P), piece_tokens)
    length_P[np.cumsum(num_pieces_D) - 1] = length_D - (num_pieces_D - 1) * piece_tokens
    offsets = np.concatenate([[0], np.cumsum(length_P)])
    pieces = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(documents)))
    batch = pa.record_batch([pieces, pa.array(document_P + first_document)], schema=_SCHEMA)
    path = folder / f"{split}-{number:05d}.arrow"
    with path.open("wb") as file:
        with pa.ipc.new_file(file, _SCHEMA) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return ShardFacts(file=path.name, split=split, file_bytes=path.stat().st_size, sha256=file_sha256(path))


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class SplitTokens:
    """The tokens of a split, memory-mapped and addressed by their offset in the whole split.

    Args:
        piece_offsets: where each piece begins, and the end: int64 [P + 1].
        document_offsets: where each document begins, and the end: int64 [D + 1].
    """

    piece_offsets: NDArray[np.int64]
    document_offsets: NDArray[np.int64]
    _shard_offsets: NDArray[np.int64]
    _shards: list[NDArray[np.uint16]]

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Tokens start to stop, which lie in one document, or none: a view of the memory map."""
        shard = int(np.searchsorted(self._shard_offsets[1:-1], start, side="right"))
        origin = int(self._shard_offsets[shard])
        return self._shards[shard][start - origin : stop - origin]

    @classmethod
    def open(cls, paths: list[Path]) -> SplitTokens:
        """Maps the shards of one split, in their order."""
        batches = [pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0) for path in paths]
        shards = [batch.column("tokens").values.to_numpy(zero_copy_only=True) for batch in batches]
        shard_offsets = np.cumsum([0, *(len(shard) for shard in shards)])
        starts = [
            batch.column("tokens").offsets.to_numpy()[:-1] + origin
            for batch, origin in zip(batches, shard_offsets[:-1], strict=True)
        ]
        piece_offsets = np.append(np.concatenate(starts), shard_offsets[-1])
        document_P = np.concatenate([batch.column("document").to_numpy() for batch in batches])
        first_pieces = np.flatnonzero(np.diff(document_P, prepend=-1))
        document_offsets = np.append(piece_offsets[first_pieces], shard_offsets[-1])
        return cls(piece_offsets, document_offsets, shard_offsets, shards)
