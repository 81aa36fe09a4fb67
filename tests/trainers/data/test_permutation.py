from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.trainers.data.permutation import KeyedPermutation, SequenceOrder


@settings(deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64))
def test_every_element_appears_once(size: int, seed: int) -> None:
    image = KeyedPermutation(size, seed, "any")(np.arange(size))
    assert sorted(image.tolist()) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(10**11, 10**12), seed=st.integers(0, 100))
def test_a_trillion_elements_stay_inside_and_never_collide(size: int, seed: int) -> None:
    index = np.concatenate([np.arange(500), np.arange(size - 500, size)])
    image = KeyedPermutation(size, seed)(index)
    assert image.min() >= 0 and image.max() < size
    assert len(np.unique(image)) == len(index)


def test_images_of_a_trillion_elements_spread_evenly() -> None:
    image = KeyedPermutation(10**12, 7)(np.arange(20_000))
    counts = np.bincount(image // 10**11, minlength=10)
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000 * 0.9)


def test_all_orders_of_four_elements_are_equally_likely() -> None:
    num_keys = 4800
    seen = dict.fromkeys(permutations(range(4)), 0)
    for seed in range(num_keys):
        seen[tuple(KeyedPermutation(4, seed)(np.arange(4)).tolist())] += 1
    expected = num_keys / 24
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 49.7  # 0.1 % of a chi-square of 23 degrees of freedom


def test_an_index_goes_to_the_same_place_alone_and_in_company() -> None:
    permutation = KeyedPermutation(1000, 3, "pieces")
    together = permutation(np.arange(1000))
    assert [int(permutation(np.array([index]))[0]) for index in (0, 1, 500, 999)] == together[[0, 1, 500, 999]].tolist()


def test_the_order_never_changes_between_releases() -> None:
    assert KeyedPermutation(10, 0, "pieces")(np.arange(10)).tolist() == [2, 6, 9, 4, 8, 0, 1, 3, 5, 7]


@pytest.mark.parametrize("other", [(1, "pieces", 0), (0, "windows", 0), (0, "pieces", 1)])
def test_each_part_of_the_key_changes_the_order(other: tuple[int | str, ...]) -> None:
    index = np.arange(100)
    assert (KeyedPermutation(100, *other)(index) != KeyedPermutation(100, 0, "pieces", 0)(index)).any()


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 10\)"):
        KeyedPermutation(10, 0)(np.array([index]))


@pytest.mark.parametrize("size", [0, -3, 2**62 + 1])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size must be"):
        KeyedPermutation(size, 0)


@settings(deadline=None)
@given(
    num_sequences=st.integers(1, 10_000),
    cursor=st.integers(0, 10**9),
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=5),
)
def test_the_order_is_a_function_of_the_position_alone(num_sequences: int, cursor: int, sizes: list[int]) -> None:
    order, fresh = SequenceOrder(num_sequences, 5), SequenceOrder(num_sequences, 5)
    whole = order.indices(cursor, sum(sizes)).tolist()
    parts: list[int] = []
    for size in sizes:
        parts += fresh.indices(cursor + len(parts), size).tolist()
    assert parts == whole


@pytest.mark.parametrize("num_sequences", [1, 2, 192, 4096, 4097, 9000])
def test_every_epoch_reads_every_sequence_once_in_an_order_of_its_own(num_sequences: int) -> None:
    order = SequenceOrder(num_sequences, 0)
    epochs = order.indices(0, 3 * num_sequences).reshape(3, num_sequences)
    assert (np.sort(epochs) == np.arange(num_sequences)).all()
    assert num_sequences < 100 or ((epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any())
