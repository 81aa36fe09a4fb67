"""Permutations of [0, n) with O(1) memory, and the endless order of training sequences built from them.

A Feistel network over the next power of two (less than 2n), walked along its cycle until it is back inside [0, n)
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). Vectorised: 4096 indices take 2 ms, so an order
is computed by blocks of that size and a step only looks up.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["KeyedPermutation", "SequenceOrder"]

_NUM_ROUNDS = 24  # with 8, pairs of a permutation of 8 elements are off by 30 %; with 16 and more by nothing measurable
_MULTIPLIERS = np.array([0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53], dtype=np.uint64)  # of MurmurHash3's finalizer
_HALF = np.uint64(32)


class KeyedPermutation:
    """A pseudo-random bijection of [0, size): the same key gives the same one, on any machine.

    Args:
        size: number of elements n, 1 to 2^62.
        key: what it is for, such as a seed, a purpose and an epoch.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"a permutation of {size} elements: size must be 1 to 2^62")
        self.size = size
        num_bits = (size - 1).bit_length()
        low_bits = (num_bits + 1) // 2
        self._low_bits = np.uint64(low_bits)
        self._low_mask = np.uint64((1 << low_bits) - 1)
        self._high_mask = np.uint64((1 << (num_bits - low_bits)) - 1)
        text = "/".join(["crossover.permutation", *map(str, key)])
        digest = hashlib.shake_256(text.encode()).digest(8 * _NUM_ROUNDS)
        self._round_keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def __call__(self, index_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each index goes: int64 [N] to int64 [N], both in [0, size)."""
        if index_N.size and not (index_N.min() >= 0 and index_N.max() < self.size):
            raise IndexError(f"indices {index_N.min()} to {index_N.max()} of a permutation of [0, {self.size})")
        image_N = self._network(index_N.astype(np.uint64))
        while (outside_N := image_N >= self.size).any():
            image_N[outside_N] = self._network(image_N[outside_N])
        return image_N.astype(np.int64)

    def _network(self, x_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
        high_N, low_N = x_N >> self._low_bits, x_N & self._low_mask
        for even_key, odd_key in self._round_keys.reshape(-1, 2):
            high_N = high_N ^ (_mixed(low_N, even_key) & self._high_mask)
            low_N = low_N ^ (_mixed(high_N, odd_key) & self._low_mask)
        joined_N: NDArray[np.uint64] = (high_N << self._low_bits) | low_N
        return joined_N


def _mixed(x_N: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    x_N = (x_N ^ key) * _MULTIPLIERS[0]
    x_N ^= x_N >> _HALF
    x_N *= _MULTIPLIERS[1]
    return x_N >> _HALF


class SequenceOrder:
    """The endless order in which a run reads its sequences: each epoch all of them once, in an order of its own.

    It is a function of the position alone, so any worker takes its slice of a batch and any run resumes at a cursor.

    Args:
        num_sequences: sequences S of the training subset.
        seed: the training seed.
    """

    _BLOCK = 4096

    def __init__(self, num_sequences: int, seed: int) -> None:
        self.num_sequences = num_sequences
        self.seed = seed
        self._block = lru_cache(maxsize=2)(self._computed_block)

    def indices(self, cursor: int, size: int) -> NDArray[np.int64]:
        """Sequences at the positions cursor to cursor + size, counted from the start of training: int64 [size]."""
        index_B = np.empty(size, dtype=np.int64)
        filled = 0
        while filled < size:
            epoch, place = divmod(cursor + filled, self.num_sequences)
            number, start = divmod(place, self._BLOCK)
            taken = self._block(epoch, number)[start : start + size - filled]
            index_B[filled : filled + len(taken)] = taken
            filled += len(taken)
        return index_B

    def _computed_block(self, epoch: int, number: int) -> NDArray[np.int64]:
        start = number * self._BLOCK
        stop = min(start + self._BLOCK, self.num_sequences)
        return KeyedPermutation(self.num_sequences, self.seed, "sequences", epoch)(np.arange(start, stop))
