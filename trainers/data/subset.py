"""`TrainingSubset`: the first U tokens of the permuted training pieces, and the batches that a run reads of them.

The stream is piece, separator, piece, separator, ... so 24k tokens lie inside 48k for the same seed. Sequence i is
tokens [iL, (i+1)L): every token once an epoch; the last sequence is shorter and padded, and padding counts for
nothing. The subset is held as one table of uint16 (of uint32 for
large vocabularies), 2 bytes a unique token (200 MB at U = 10^8), so a batch is a lookup:
16 x 128 tokens take 50 microseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.data.corpus import Corpus
from crossover.trainers.data.permutation import KeyedPermutation, SequenceOrder
from crossover.trainers.data.tokenizers import TokenArray, token_type
from crossover.trainers.errors import CorpusError

__all__ = ["Batch", "TrainingSubset"]


@dataclass(frozen=True)
class Batch:
    """Sequences of one step.

    Args:
        tokens_BL: token ids, int64; padding holds the separator's id.
        valid_BL: False at padding, bool.
        num_tokens: tokens that are valid.
    """

    tokens_BL: Tensor
    valid_BL: Tensor
    num_tokens: int


class TrainingSubset:
    """The unique tokens that a run may train on, cut into sequences.

    Args:
        corpus: where they come from.
        unique_tokens: unique tokens U, separators counted.
        sequence_length: tokens a sequence L.
        seed: seed of the permutation of pieces (`data.seed`); not the training seed.

    Raises:
        CorpusError: the corpus has fewer training tokens than that.
    """

    def __init__(self, corpus: Corpus, unique_tokens: int, sequence_length: int, seed: int) -> None:
        if unique_tokens > corpus.num_training_tokens:
            raise CorpusError(
                f"data.unique_tokens = {unique_tokens:,} but corpus {corpus.name} has {corpus.num_training_tokens:,} "
                "training tokens (separators counted): set it to that or less, or give more text"
            )
        self.unique_tokens = unique_tokens
        self.sequence_length = sequence_length
        self.num_sequences = -(-unique_tokens // sequence_length)
        self._tail_tokens = unique_tokens - (self.num_sequences - 1) * sequence_length
        separator = corpus.vocabulary.separator
        stream = np.full(
            self.num_sequences * sequence_length, separator, dtype=token_type(corpus.vocabulary.num_text_tokens)
        )
        _fill(stream[:unique_tokens], corpus, seed)
        self.tokens_hash = hashlib.sha256(
            np.ascontiguousarray(stream[:unique_tokens].astype(stream.dtype.newbyteorder("<"), copy=False)).data
        ).hexdigest()
        self._tokens_SL = stream.reshape(self.num_sequences, sequence_length)
        self._order: SequenceOrder | None = None

    def batch(self, cursor: int, size: int, order_seed: int) -> Batch:
        """The sequences at the positions cursor to cursor + size of the endless training order.

        A worker of several takes its slice: `batch(cursor + rank * local, local, order_seed)` with
        local = size / world_size. Joined, the slices are the batch of one worker.

        Args:
            cursor: sequences consumed since the start of training, of any epoch.
            size: sequences B.
            order_seed: the training seed.
        """
        if self._order is None or self._order.seed != order_seed:
            self._order = SequenceOrder(self.num_sequences, order_seed)
        index_B = self._order.indices(cursor, size)
        tokens_BL = torch.from_numpy(self._tokens_SL[index_B].astype(np.int64))
        valid_BL = torch.ones(size, self.sequence_length, dtype=torch.bool)
        tails = np.flatnonzero(index_B == self.num_sequences - 1)
        valid_BL[tails, self._tail_tokens :] = False
        num_padding = len(tails) * (self.sequence_length - self._tail_tokens)
        return Batch(tokens_BL, valid_BL, size * self.sequence_length - num_padding)


def _fill(stream_U: TokenArray, corpus: Corpus, seed: int) -> None:
    """Writes pieces in permuted order over a stream of separators, until it is full."""
    split = corpus.split("training")
    length_P = np.diff(split.piece_offsets)
    order_P = KeyedPermutation(len(length_P), seed, "pieces")(np.arange(len(length_P)))
    start_P = np.cumsum(length_P[order_P] + 1) - length_P[order_P] - 1
    num_needed = int(np.searchsorted(start_P, len(stream_U)))
    for start, piece in zip(start_P[:num_needed].tolist(), order_P[:num_needed].tolist(), strict=True):
        room = stream_U[start : start + int(length_P[piece])]
        origin = int(split.piece_offsets[piece])
        room[:] = split.read(origin, origin + len(room))
