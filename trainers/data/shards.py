"""Arrow IPC shards: a row a piece, its tokens (uint16, or uint32 for large vocabularies) and its document.

A shard is one record batch, so that a memory map of it is two flat arrays without a copy. A document never straddles
two shards, and is numbered within its shard. Held-out shards of other tokens than bytes carry the bytes of each token.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossover.trainers.data.manifest import ShardFacts, SplitName
from crossover.trainers.data.tokenizers import TokenArray

__all__ = ["SplitTokens", "file_sha256", "write_shard"]


def write_shard(
    path: Path,
    split: SplitName,
    documents: Sequence[TokenArray],
    piece_tokens: int,
    token_bytes: Sequence[NDArray[np.uint16]] | None = None,
) -> ShardFacts:
    """Writes documents, cut into pieces, and has them on the disk.

    Args:
        path: of the file.
        split: that they belong to.
        documents: tokens of each document, at least one, none empty.
        piece_tokens: most tokens of a piece.
        token_bytes: bytes of text of each token; None: none is kept.
    """
    length_D = np.array([len(tokens) for tokens in documents])
    num_pieces_D = -(-length_D // piece_tokens)
    document_P = np.repeat(np.arange(len(documents)), num_pieces_D)
    length_P = np.full(len(document_P), piece_tokens)
    length_P[np.cumsum(num_pieces_D) - 1] = length_D - (num_pieces_D - 1) * piece_tokens
    offsets = pa.array(np.concatenate([[0], np.cumsum(length_P)]))
    columns = {"tokens": pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate(documents)))}
    columns["document"] = pa.array(document_P)
    if token_bytes is not None:
        columns["bytes"] = pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate(token_bytes)))
    schema = pa.schema([pa.field(name, column.type, False) for name, column in columns.items()])
    with path.open("wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
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
    _shards: list[TokenArray]
    _token_bytes: list[NDArray[np.uint16]] | None

    def read(self, start: int, stop: int) -> TokenArray:
        """Tokens start to stop, which lie in one document, or none: a view of the memory map."""
        shard, origin = self._shard_of(start)
        return self._shards[shard][start - origin : stop - origin]

    def num_bytes(self, start: int, stop: int) -> int:
        """Bytes of text of tokens start to stop, which lie in one document; for the training split of bytes only."""
        if self._token_bytes is None:
            return stop - start
        shard, origin = self._shard_of(start)
        return int(self._token_bytes[shard][start - origin : stop - origin].sum())

    @property
    def num_documents(self) -> int:
        """Documents."""
        return len(self.document_offsets) - 1

    def document(self, number: int) -> TokenArray:
        """The tokens of a document: a view of the memory map."""
        return self.read(int(self.document_offsets[number]), int(self.document_offsets[number + 1]))

    def _shard_of(self, start: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._shard_offsets[1:-1], start, side="right"))
        return shard, int(self._shard_offsets[shard])

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
        first_P = np.concatenate([np.diff(batch.column("document").to_numpy(), prepend=-1) != 0 for batch in batches])
        document_offsets = np.append(piece_offsets[:-1][first_P], shard_offsets[-1])
        has_bytes = "bytes" in batches[0].schema.names
        token_bytes = [batch.column("bytes").values.to_numpy() for batch in batches] if has_bytes else None
        return cls(piece_offsets, document_offsets, shard_offsets, shards, token_bytes)
