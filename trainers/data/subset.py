"""`TrainingSubset`: the first U tokens of the permuted training pieces, and the batches that a run reads of them.

The stream is piece, separator, piece, separator, ... so 24k tokens lie inside 48k for the same seed. Sequence i is
tokens [iL, (i+1)L): every token once an epoch; the last sequence is shorter and padded, and padding counts for
nothing. Of a mixture each corpus has sequences of its own, and a pass reads them as often as its repeats say. The
subset is held as one table of uint16 (uint32 for large vocabularies), 2 bytes a unique token (200 MB at U = 10^8), so
a batch is a lookup: 16 x 128 tokens take 50 microseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossover.trainers.data.corpus import Corpus
from crossover.trainers.data.mixed import MixedCorpus
from crossover.trainers.data.permutation import KeyedPermutation, SequenceOrder
from crossover.trainers.data.tokenizers import TokenArray, token_type
from crossover.trainers.errors import CorpusError
from crossover.trainers.mixture import MixturePart, unique_tokens_of

__all__ = ["Batch", "TrainingSubset", "check_budget"]

_COUNTED_AT_ONCE = 1 << 16


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
        unique_tokens: unique tokens U, separators counted; a mixture shares them out by weights and repeats.
        sequence_length: tokens a sequence L.
        seed: seed of the permutation of pieces (`data.seed`); not the training seed.
        tier: of quality; None: all text.

    Raises:
        CorpusError: the corpus has fewer training tokens than that, or no such tier.
    """

    def __init__(
        self,
        corpus: Corpus | MixedCorpus,
        unique_tokens: int,
        sequence_length: int,
        seed: int,
        tier: str | None = None,
    ) -> None:
        check_budget(corpus, unique_tokens, tier)
        self.unique_tokens = unique_tokens
        self.sequence_length = sequence_length
        settings = [MixturePart(part.corpus.name, part.weight, part.repeats) for part in corpus.parts]
        tokens_P = np.array(unique_tokens_of(settings, unique_tokens))
        sequences_P = -(-tokens_P // sequence_length)
        self._names = [part.corpus.name for part in corpus.parts]
        self._first_P = np.cumsum(sequences_P) - sequences_P
        self._sequences_P = sequences_P
        self._reads_P = sequences_P * [part.repeats for part in corpus.parts]
        self._tail_tokens_P = tokens_P - (sequences_P - 1) * sequence_length
        vocabulary = corpus.vocabulary
        stream = np.full(
            int(sequences_P.sum()) * sequence_length, vocabulary.separator, dtype=token_type(vocabulary.num_text_tokens)
        )
        digest = hashlib.sha256()
        for part, first, tokens in zip(corpus.parts, self._first_P * sequence_length, tokens_P, strict=True):
            own = stream[first : first + tokens]
            _fill(own, part.corpus, seed, tier)
            digest.update(np.ascontiguousarray(own.astype(own.dtype.newbyteorder("<"), copy=False)).data)
        self.tokens_hash = digest.hexdigest()
        self._tokens_SL = stream.reshape(-1, sequence_length)
        self._order: SequenceOrder | None = None

    @property
    def num_sequences(self) -> int:
        """Sequences that hold the unique tokens."""
        return len(self._tokens_SL)

    @property
    def whole_sequences(self) -> NDArray[np.int64]:
        """Places of the sequences that are not padded."""
        tails = self._first_P + self._sequences_P - 1
        return np.setdiff1d(np.arange(self.num_sequences), tails[self._tail_tokens_P < self.sequence_length])

    def sequences(self, index_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sequences by their place in the subset, int64 [B, L]; the last one may be padded with separators."""
        return self._tokens_SL[index_B].astype(np.int64)

    def batch(self, cursor: int, size: int, order_seed: int) -> Batch:
        """The sequences at the positions cursor to cursor + size of the endless training order.

        A worker of several takes its slice: `batch(cursor + rank * local, local, order_seed)` with
        local = size / world_size. Joined, the slices are the batch of one worker.

        Args:
            cursor: sequences consumed since the start of training, of any epoch.
            size: sequences B.
            order_seed: the training seed.
        """
        part_B, index_B = self._sequences(self._ordered(order_seed).indices(cursor, size))
        tokens_BL = torch.from_numpy(self.sequences(index_B))
        is_tail_B = index_B == (self._first_P + self._sequences_P - 1)[part_B]
        length_B = np.where(is_tail_B, self._tail_tokens_P[part_B], self.sequence_length)
        valid_BL = torch.from_numpy(np.arange(self.sequence_length) < length_B[:, None])
        return Batch(tokens_BL, valid_BL, int(length_B.sum()))

    def epochs_by_corpus(self, cursor: int, order_seed: int) -> dict[str, float]:
        """Passes over the unique tokens of each corpus, in sequences, before a position of the training order.

        Counted, not expected: what is begun of a pass is gone through, sequence by sequence.

        Args:
            cursor: sequences consumed since the start of training.
            order_seed: the training seed.
        """
        passes, rest = divmod(cursor, int(self._reads_P.sum()))
        count_P = passes * self._reads_P
        for start in range(cursor - rest, cursor, _COUNTED_AT_ONCE):
            size = min(_COUNTED_AT_ONCE, cursor - start)
            part_B, _ = self._sequences(self._ordered(order_seed).indices(start, size))
            count_P = count_P + np.bincount(part_B, minlength=len(count_P))
        return dict(zip(self._names, (count_P / self._sequences_P).tolist(), strict=True))

    def _ordered(self, seed: int) -> SequenceOrder:
        if self._order is None or self._order.seed != seed:
            self._order = SequenceOrder(int(self._reads_P.sum()), seed)
        return self._order

    def _sequences(self, read_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Corpus and sequence of reads of a pass, which has each corpus as often as it is repeated."""
        ends_P = np.cumsum(self._reads_P)
        part_B = np.searchsorted(ends_P, read_B, side="right")
        within_B = read_B - (ends_P - self._reads_P)[part_B]
        return part_B, self._first_P[part_B] + within_B % self._sequences_P[part_B]


def check_budget(corpus: Corpus | MixedCorpus, unique_tokens: int, tier: str | None, where: str = "") -> None:
    """Refuses more unique tokens than a corpus has.

    Args:
        corpus: that they would come from.
        unique_tokens: asked for.
        tier: of quality; None: all text.
        where: which trials ask for them, in words.

    Raises:
        CorpusError: it has fewer, no such tier, or a corpus of a mixture would have none.
    """
    available = corpus.num_training_tokens(tier)
    if unique_tokens > available:
        of_tier = "" if tier is None else f" of tier {tier}"
        raise CorpusError(
            f"data.unique_tokens = {unique_tokens:,}{where} but corpus {corpus.name} has {available:,} training tokens"
            f"{of_tier} (separators counted): set it to that or less, or give more text"
        )
    settings = [MixturePart(part.corpus.name, part.weight, part.repeats) for part in corpus.parts]
    for part, share in zip(settings, unique_tokens_of(settings, unique_tokens), strict=True):
        if share < 1:
            raise CorpusError(
                f"data.unique_tokens = {unique_tokens:,}{where} leaves no token to corpus {part.name} of the mixture, "
                f"whose weight is {part.weight:g}: set more unique tokens, or leave it out"
            )


def _fill(stream_U: TokenArray, corpus: Corpus, seed: int, tier: str | None) -> None:
    """Writes pieces in permuted order over a stream of separators, until it is full."""
    split = corpus.split("training")
    piece_K = np.arange(len(split.piece_offsets) - 1)
    if tier is not None:
        document_P = np.searchsorted(split.document_offsets, split.piece_offsets[:-1], side="right") - 1
        piece_K = piece_K[corpus.is_in_tier(tier)[document_P]]
    order_K = piece_K[KeyedPermutation(len(piece_K), seed, "pieces")(np.arange(len(piece_K)))]
    length_K = np.diff(split.piece_offsets)[order_K]
    start_K = np.cumsum(length_K + 1) - length_K - 1
    num_needed = int(np.searchsorted(start_K, len(stream_U)))
    for start, piece, length in zip(
        start_K[:num_needed].tolist(), order_K[:num_needed].tolist(), length_K[:num_needed].tolist(), strict=True
    ):
        room = stream_U[start : start + length]
        origin = int(split.piece_offsets[piece])
        room[:] = split.read(origin, origin + len(room))
