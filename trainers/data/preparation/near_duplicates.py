"""Near-duplicates by MinHash: training documents that are almost the same as a held-out one.

A document is the set of its 16-byte shingles, letters folded and everything but letters and digits left out, so that
spacing, case and punctuation do not hide a copy. One permutation, 128 bins (Li, Owen and Zhang, arXiv 1208.1259).
The share of equal bins estimates the Jaccard similarity J with an error of sqrt(J (1 - J) / 128), 0.035 at 0.8;
21 bands of 6 bins find a pair of J = 0.8 with probability 0.998. Texts under a shingle are never near anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeldOutIndex", "signatures_of"]

NUM_BINS = 128
_SHINGLE = 16
_BAND_BINS = 6
_NUM_BANDS = NUM_BINS // _BAND_BINS
_EMPTY = np.uint32(0xFFFFFFFF)
_CHUNK_BYTES = 1 << 20
_PAIRS_AT_ONCE = 1 << 16

_FOLDED = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_LEFT_OUT = bytes(byte for byte in range(128) if not (chr(byte).isalnum()))
_MIX = np.array([0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53], dtype=np.uint64)

Signatures = NDArray[np.uint32]


def signatures_of(texts: Sequence[bytes]) -> Signatures:
    """The MinHash signature of each text: uint32 [N, 128], empty bins all ones."""
    found = np.full((len(texts), NUM_BINS), _EMPTY, dtype=np.uint32)
    waiting: list[tuple[int, bytes]] = []
    size = 0
    for number, text in enumerate(texts):
        folded = text.translate(_FOLDED, _LEFT_OUT)
        if len(folded) >= _SHINGLE:
            waiting.append((number, folded))
            size += len(folded)
        if size >= _CHUNK_BYTES:
            _add(found, waiting)
            waiting, size = [], 0
    if waiting:
        _add(found, waiting)
    return found


def _add(found: Signatures, texts: Sequence[tuple[int, bytes]]) -> None:
    """Enters the shingles of some texts, all in one pass over their joined bytes."""
    joined = b"".join(text for _, text in texts)
    first_S = _words(joined, 0, len(joined) - _SHINGLE + 1)
    second_S = _words(joined, 8, len(joined) - _SHINGLE + 1)
    hash_S = _mixed(first_S + _mixed(second_S))
    row_S = np.repeat([number for number, _ in texts], [len(text) for _, text in texts])[: len(hash_S)]
    ends = np.cumsum([len(text) for _, text in texts])[:-1]
    straddling = (ends[:, None] - np.arange(1, _SHINGLE)).ravel()
    inside_S = np.ones(len(hash_S), dtype=bool)
    inside_S[straddling[straddling < len(hash_S)]] = False
    place_S = row_S * NUM_BINS + (hash_S & np.uint64(NUM_BINS - 1)).astype(np.int64)
    value_S = (hash_S >> np.uint64(32)).astype(np.uint32)
    np.minimum.at(found.reshape(-1), place_S[inside_S], value_S[inside_S])


def _words(joined: bytes, offset: int, count: int) -> NDArray[np.uint64]:
    """The eight bytes that begin at each place, as numbers."""
    return np.ndarray((count,), dtype="<u8", buffer=joined, offset=offset, strides=(1,)).astype(np.uint64)


def _mixed(x_S: NDArray[Any]) -> NDArray[np.uint64]:
    x_S = x_S * _MIX[0]
    x_S ^= x_S >> np.uint64(32)
    x_S *= _MIX[1]
    x_S ^= x_S >> np.uint64(29)
    return x_S


def _bands(signatures: Signatures) -> NDArray[np.uint64]:
    """One number for each band of each signature, 0 where all its bins are empty: uint64 [bands, N]."""
    binned = signatures[:, : _NUM_BANDS * _BAND_BINS].reshape(len(signatures), _NUM_BANDS, _BAND_BINS)
    number: NDArray[np.uint64] = np.zeros(binned.shape[:2], dtype=np.uint64)
    for place in range(_BAND_BINS):
        number = _mixed(number ^ binned[:, :, place].astype(np.uint64)) + _MIX[2]
    number[number == 0] = 1
    number[(binned == _EMPTY).all(axis=2)] = 0
    return np.ascontiguousarray(number.T)


class HeldOutIndex:
    """Finds the held-out documents that a text is near to. Its tables are memory-mapped, so processes share them.

    Args:
        folder: where `build` wrote it.
        threshold: estimated Jaccard similarity from which two documents are near.
    """

    def __init__(self, folder: Path, threshold: float) -> None:
        self._threshold = threshold
        self._bands, self._rows, self._signatures = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("bands", "rows", "signatures")
        )

    @staticmethod
    def build(folder: Path, signatures: Signatures) -> None:
        """Writes the index of the held-out documents' signatures."""
        folder.mkdir(exist_ok=True)
        bands = _bands(signatures)
        rows = np.argsort(bands, axis=1, kind="stable").astype(np.uint32)
        np.save(folder / "bands.npy", np.take_along_axis(bands, rows.astype(np.int64), axis=1))
        np.save(folder / "rows.npy", rows)
        np.save(folder / "signatures.npy", signatures)

    def is_near(self, signatures: Signatures) -> NDArray[np.bool_]:
        """Whether each text is near some held-out document: bool [N]."""
        near_N = np.zeros(len(signatures), dtype=bool)
        for sorted_M, rows_M, number_N in zip(self._bands, self._rows, _bands(signatures), strict=True):
            first_N = np.searchsorted(sorted_M, number_N)
            count_N = np.searchsorted(sorted_M, number_N, side="right") - first_N
            count_N[(number_N == 0) | near_N] = 0
            for begin in range(int(count_N.max(initial=0))):
                some = np.flatnonzero((count_N > begin) & ~near_N)
                for few in np.split(some, range(_PAIRS_AT_ONCE, len(some), _PAIRS_AT_ONCE)):
                    other = self._signatures[rows_M[first_N[few] + begin]]
                    near_N[few] |= _similarity(signatures[few], other) >= self._threshold
        return near_N


def _similarity(a_PB: Signatures, b_PB: Signatures) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of signatures."""
    used = ((a_PB != _EMPTY) | (b_PB != _EMPTY)).sum(axis=1)
    equal = ((a_PB == b_PB) & (a_PB != _EMPTY)).sum(axis=1)
    similarity: NDArray[np.float64] = equal / np.maximum(used, 1)
    return similarity
