from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from crossover.trainers.data import Batch, Corpus, TrainingSubset
from crossover.trainers.errors import CorpusError

from .conftest import PIECE_TOKENS, split_of, texts_of

SEPARATOR = 256


def stream(corpus: Corpus, unique_tokens: int, seed: int = 0) -> list[int]:
    """The whole subset, as a single sequence."""
    return TrainingSubset(corpus, unique_tokens, unique_tokens, seed).batch(0, 1, 0).tokens_BL[0].tolist()


def available(texts: Path) -> int:
    training = [text for text in texts_of(texts) if split_of(text) == "training"]
    return sum(len(text) + -(-len(text) // PIECE_TOKENS) for text in training)


def rows(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(t[v].tolist()) for t, v in zip(batch.tokens_BL, batch.valid_BL, strict=True)]


def joined(batches: list[Batch]) -> Batch:
    return Batch(
        torch.cat([batch.tokens_BL for batch in batches]),
        torch.cat([batch.valid_BL for batch in batches]),
        sum(batch.num_tokens for batch in batches),
    )


def equal(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.tokens_BL, b.tokens_BL) and torch.equal(a.valid_BL, b.valid_BL) and a.num_tokens == b.num_tokens
    )


def test_the_whole_stream_is_every_training_piece_once_each_ended_by_a_separator(corpus: Corpus, texts: Path) -> None:
    tokens = stream(corpus, available(texts))
    assert tokens.pop() == SEPARATOR
    found = Counter(bytes(map(int, piece.split())) for piece in " ".join(map(str, tokens)).split(f"{SEPARATOR}"))
    expected = Counter(
        text[start : start + PIECE_TOKENS]
        for text in texts_of(texts)
        if split_of(text) == "training"
        for start in range(0, len(text), PIECE_TOKENS)
    )
    assert found == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_a_small_budget_is_the_beginning_of_a_large_one(corpus: Corpus, texts: Path, seed: int) -> None:
    whole = stream(corpus, available(texts), seed)
    for unique_tokens in (1, 63, 64, 65, 66, 500, 501, len(whole) - 1):
        assert stream(corpus, unique_tokens, seed) == whole[:unique_tokens]


def test_another_seed_takes_other_pieces(corpus: Corpus) -> None:
    assert stream(corpus, 500, seed=0) != stream(corpus, 500, seed=1)


def test_the_hash_is_of_the_tokens_and_of_nothing_else(corpus: Corpus) -> None:
    expected = hashlib.sha256(np.array(stream(corpus, 500), dtype="<u2").tobytes()).hexdigest()
    assert {TrainingSubset(corpus, 500, length, 0).tokens_hash for length in (2, 128, 500, 900)} == {expected}
    assert TrainingSubset(corpus, 501, 128, 0).tokens_hash != expected
    assert TrainingSubset(corpus, 500, 128, 1).tokens_hash != expected


@pytest.mark.parametrize(("unique_tokens", "sequence_length"), [(500, 32), (512, 32), (513, 32), (20, 32), (500, 2)])
def test_every_epoch_covers_every_token_once_and_counts_no_padding(
    corpus: Corpus, unique_tokens: int, sequence_length: int
) -> None:
    subset = TrainingSubset(corpus, unique_tokens, sequence_length, 0)
    tokens = stream(corpus, unique_tokens)
    expected = Counter(tuple(tokens[i : i + sequence_length]) for i in range(0, unique_tokens, sequence_length))
    assert subset.num_sequences == expected.total()
    for epoch in range(3):
        batch = subset.batch(epoch * subset.num_sequences, subset.num_sequences, order_seed=7)
        assert Counter(rows(batch)) == expected
        assert batch.num_tokens == int(batch.valid_BL.sum()) == unique_tokens


def test_padding_comes_last_and_holds_separators(corpus: Corpus) -> None:
    subset = TrainingSubset(corpus, 100, 32, 0)
    batch = subset.batch(0, subset.num_sequences, 0)
    (tail,) = torch.nonzero(~batch.valid_BL.all(dim=1)).flatten().tolist()
    assert batch.valid_BL[tail].tolist() == [True] * 4 + [False] * 28
    assert batch.tokens_BL[tail, 4:].tolist() == [SEPARATOR] * 28


def test_batches_have_the_types_of_the_contract(corpus: Corpus) -> None:
    batch = TrainingSubset(corpus, 500, 32, 0).batch(3, 4, 0)
    assert (batch.tokens_BL.dtype, batch.valid_BL.dtype) == (torch.int64, torch.bool)
    assert batch.tokens_BL.shape == batch.valid_BL.shape == (4, 32)


def test_epochs_and_training_seeds_have_orders_of_their_own(corpus: Corpus) -> None:
    subset = TrainingSubset(corpus, 512, 16, 0)
    first = subset.batch(0, 32, 0)
    assert not equal(first, subset.batch(32, 32, 0))
    assert not equal(first, subset.batch(0, 32, 1))
    assert equal(first, subset.batch(0, 32, 0))


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_global_order_is_the_same_at_any_data_parallel_size(corpus: Corpus, world_size: int) -> None:
    alone = TrainingSubset(corpus, 500, 16, 0)
    workers = [TrainingSubset(corpus, 500, 16, 0) for _ in range(world_size)]
    local = 8 // world_size
    for cursor in range(0, 96, 8):  # three epochs of 32 sequences
        slices = [worker.batch(cursor + rank * local, local, 3) for rank, worker in enumerate(workers)]
        assert equal(joined(slices), alone.batch(cursor, 8, 3))


def test_a_fresh_process_goes_on_at_the_cursor(corpus: Corpus) -> None:
    undisturbed = TrainingSubset(corpus, 500, 16, 0)
    seen = [undisturbed.batch(cursor, 5, 9) for cursor in range(0, 200, 5)]
    resumed = TrainingSubset(corpus, 500, 16, 0)
    assert all(equal(resumed.batch(cursor, 5, 9), seen[cursor // 5]) for cursor in range(95, 200, 5))


def test_a_batch_may_be_larger_than_an_epoch(corpus: Corpus) -> None:
    subset = TrainingSubset(corpus, 50, 16, 0)
    batch = subset.batch(1, 4 * 3 + 1, 0)
    assert equal(batch, joined([subset.batch(1 + i, 1, 0) for i in range(13)]))


def test_a_budget_larger_than_the_corpus_is_told_how_many_tokens_there_are(corpus: Corpus, texts: Path) -> None:
    num_tokens = available(texts)
    assert TrainingSubset(corpus, num_tokens, 128, 0).unique_tokens == num_tokens
    for unique_tokens in (num_tokens + 1, 10**18):
        with pytest.raises(CorpusError, match=rf"unique_tokens = {unique_tokens:,} but .* has {num_tokens:,} training"):
            TrainingSubset(corpus, unique_tokens, 128, 0)
