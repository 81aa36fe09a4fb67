"""`held_out_windows`: the fixed windows on which models are compared.

Each document's tokens and its separator are cut into windows of L, the last one shorter; so no window straddles two
documents, and errors can be clustered by document. A smaller choice of the same seed is the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossover.trainers.data.corpus import Corpus
from crossover.trainers.data.mixed import MixedCorpus
from crossover.trainers.data.permutation import KeyedPermutation

__all__ = ["Windows", "held_out_windows"]


@dataclass(frozen=True)
class Windows:
    """Held-out windows.

    Args:
        tokens_WL: token ids, int64; padding holds the separator's id.
        valid_WL: False at padding, bool.
        num_tokens_W: valid tokens, the separator counted, int64.
        num_bytes_W: bytes of their text; a separator has none, so 0 is possible; int64.
        document_W: number of the document in its split, int64.
        content_hash: sha256 of tokens, lengths and documents.
    """

    tokens_WL: Tensor
    valid_WL: Tensor
    num_tokens_W: NDArray[np.int64]
    num_bytes_W: NDArray[np.int64]
    document_W: NDArray[np.int64]
    content_hash: str

    @property
    def num(self) -> int:
        """Windows W: those asked for, or all there are where there are fewer."""
        return len(self.num_tokens_W)


def held_out_windows(
    corpus: Corpus | MixedCorpus,
    split: Literal["validation", "test"],
    sequence_length: int,
    num_windows: int,
    seed: int,
) -> Windows:
    """The first windows of a seeded permutation of all windows of a split.

    Of a mixture each corpus gives its weight's share of them, at least one, so that the loss is that of the mixture.

    Args:
        corpus: where they come from.
        split: validation for stopping, choice and search; test to be scored once.
        sequence_length: tokens a window L.
        num_windows: windows wanted; all are taken where there are fewer, see `Windows.num`.
        seed: the evaluation seed, common to all trials compared.
    """
    chosen, first_document = [], 0
    for part in corpus.parts:
        share = max(1, round(num_windows * part.weight))
        chosen.append(_windows_of(part.corpus, split, sequence_length, share, seed, first_document))
        first_document += part.corpus.manifest.splits[split].num_documents
    tokens_WL, num_tokens_W, num_bytes_W, document_W = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    return Windows(
        torch.from_numpy(tokens_WL),
        torch.from_numpy(np.arange(sequence_length) < num_tokens_W[:, None]),
        num_tokens_W,
        num_bytes_W,
        document_W,
        _digest(tokens_WL, num_tokens_W, document_W),
    )


def _windows_of(
    corpus: Corpus,
    split: Literal["validation", "test"],
    sequence_length: int,
    num_windows: int,
    seed: int,
    first_document: int,
) -> tuple[NDArray[np.int64], ...]:
    """Tokens, number of tokens, bytes and document of each window of one corpus."""
    text = corpus.split(split)
    length_D = np.diff(text.document_offsets)
    document_A, start_A = _all_windows(length_D + 1, sequence_length)
    chosen_W = KeyedPermutation(len(start_A), seed, "windows", split)(np.arange(min(num_windows, len(start_A))))
    document_W, start_W = document_A[chosen_W], start_A[chosen_W]
    num_tokens_W = np.minimum(length_D[document_W] + 1 - start_W, sequence_length)
    num_text_W = np.minimum(length_D[document_W] - start_W, sequence_length)
    tokens_WL = np.full((len(chosen_W), sequence_length), corpus.vocabulary.separator, dtype=np.int64)
    origin_W = text.document_offsets[document_W] + start_W
    num_bytes_W = np.empty(len(chosen_W), dtype=np.int64)
    for row, (origin, length) in enumerate(zip(origin_W.tolist(), num_text_W.tolist(), strict=True)):
        tokens_WL[row, :length] = text.read(origin, origin + length)
        num_bytes_W[row] = text.num_bytes(origin, origin + length)
    return tokens_WL, num_tokens_W, num_bytes_W, document_W + first_document


def _all_windows(length_D: NDArray[np.int64], sequence_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Document and start of each window, in the order of documents."""
    num_windows_D = -(-length_D // sequence_length)
    document_A = np.repeat(np.arange(len(length_D)), num_windows_D)
    first_D = np.cumsum(num_windows_D) - num_windows_D
    return document_A, (np.arange(len(document_A)) - first_D[document_A]) * sequence_length


def _digest(*arrays: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(array.astype("<i8", copy=False).tobytes())
    return digest.hexdigest()
