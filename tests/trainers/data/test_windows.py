from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from crossover.trainers.data import Corpus, Windows, held_out_windows

from .conftest import split_of, texts_of

SEPARATOR = 256
ALL = 10**6


def window_tokens(windows: Windows) -> list[tuple[int, ...]]:
    return [tuple(t[v].tolist()) for t, v in zip(windows.tokens_WL, windows.valid_WL, strict=True)]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("length", [2, 64, 65, 1000])
def test_all_windows_are_each_document_and_its_separator_cut_apart(
    corpus: Corpus, texts: Path, split: str, length: int
) -> None:
    expected: Counter[tuple[int, ...]] = Counter()
    for text in texts_of(texts):
        if split_of(text) == split:
            tokens = (*text, SEPARATOR)
            expected.update(tokens[start : start + length] for start in range(0, len(tokens), length))
    windows = held_out_windows(corpus, split, length, ALL, 0)  # type: ignore[arg-type]
    assert Counter(window_tokens(windows)) == expected
    assert windows.num == expected.total() < ALL


def test_windows_of_one_document_number_are_one_document(corpus: Corpus, texts: Path) -> None:
    windows = held_out_windows(corpus, "validation", 64, ALL, 0)
    lengths: defaultdict[int, int] = defaultdict(int)
    for number, num_tokens in zip(windows.document_W.tolist(), windows.num_tokens_W.tolist(), strict=True):
        lengths[number] += num_tokens
    expected = sorted(len(text) + 1 for text in texts_of(texts) if split_of(text) == "validation")
    assert sorted(lengths.values()) == expected


def test_counts_are_of_valid_tokens_and_of_text_bytes(corpus: Corpus) -> None:
    windows = held_out_windows(corpus, "validation", 64, ALL, 0)
    for row, num_tokens, num_bytes in zip(
        window_tokens(windows), windows.num_tokens_W, windows.num_bytes_W, strict=True
    ):
        assert len(row) == num_tokens
        assert sum(token != SEPARATOR for token in row) == num_bytes
    assert windows.num_bytes_W.sum() == corpus.manifest.splits["validation"].num_bytes
    assert 0 in windows.num_bytes_W.tolist()  # a document of 64 bytes leaves its separator alone


def test_fewer_windows_are_the_beginning_of_more(corpus: Corpus) -> None:
    few, many = (held_out_windows(corpus, "test", 32, num, 5) for num in (7, 20))
    assert (few.num, many.num) == (7, 20)
    assert torch.equal(few.tokens_WL, many.tokens_WL[:7])
    assert few.document_W.tolist() == many.document_W[:7].tolist()


def test_the_choice_is_the_same_each_time_and_another_for_another_seed(corpus: Corpus) -> None:
    first, again, other = (held_out_windows(corpus, "test", 32, 20, seed) for seed in (0, 0, 1))
    assert first.content_hash == again.content_hash != other.content_hash
    assert torch.equal(first.tokens_WL, again.tokens_WL) and not torch.equal(first.tokens_WL, other.tokens_WL)


def test_windows_have_the_types_of_the_contract(corpus: Corpus) -> None:
    windows = held_out_windows(corpus, "test", 32, 20, 0)
    assert (windows.tokens_WL.dtype, windows.valid_WL.dtype) == (torch.int64, torch.bool)
    assert windows.tokens_WL.shape == windows.valid_WL.shape == (20, 32)
    assert {array.dtype.name for array in (windows.num_tokens_W, windows.num_bytes_W, windows.document_W)} == {"int64"}
