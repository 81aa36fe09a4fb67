"""What evaluation hides: strata, weights and balance."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossover.trainers.objectives.evaluation_masks import (
    EvaluationMasks,
    count_weights,
    mask_strata,
    masked_counts,
    mean_masked_share,
)


def every_mask(masks: EvaluationMasks) -> torch.Tensor:
    return masks.rows(torch.arange(masks.num_rows))[1].view(*masks.k_WM.shape, -1)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_counts_are_in_range_and_in_different_strata(lengths: list[int], num_masks: int, shift: float) -> None:
    n_W = np.array(lengths)
    k_WM = masked_counts(n_W, num_masks, shift)
    assert k_WM.shape == (len(lengths), num_masks)
    assert (k_WM >= 1).all()
    assert (k_WM <= n_W[:, None]).all()
    for stratum in range(num_masks):
        low, high = stratum * n_W / num_masks, (stratum + 1) * n_W / num_masks
        assert (k_WM[:, stratum] >= np.floor(low + 1e-9) + 0).all()
        assert (k_WM[:, stratum] <= np.floor(high + 1e-9) + 1).all()


@pytest.mark.parametrize("num_masks", [1, 2, 5])
def test_counts_of_each_window_are_uniform_over_the_shift(num_masks: int) -> None:
    shifts = (np.arange(7000) + 0.5) / 7000
    k = np.stack([masked_counts(np.array([7, 7, 7]), num_masks, shift) for shift in shifts])
    for window in range(3):
        counts = np.bincount(k[:, window].ravel(), minlength=8)[1:]
        np.testing.assert_allclose(counts, 1000 * num_masks, atol=2 * num_masks)


def test_counts_spread_evenly_over_windows() -> None:
    k_WM = masked_counts(np.full(256, 128), 2, 0.3)
    counts = np.bincount(k_WM.ravel(), minlength=129)[1:]  # 512 pairs on 128 values: 4 each
    assert counts.min() >= 2
    assert counts.max() <= 6
    assert k_WM.mean() == pytest.approx(64.5, abs=0.3)


@pytest.mark.parametrize("num_masks", [1, 2, 5, 8])
def test_every_stratum_is_uniform_over_the_shift(num_masks: int) -> None:
    shifts = (np.arange(2000) + 0.5) / 2000
    u = np.stack([mask_strata(3, num_masks, shift, antithetic=True) for shift in shifts])
    for window, mask in itertools.product(range(3), range(num_masks)):
        values = np.sort(u[:, window, mask])
        np.testing.assert_allclose(values, (mask + shifts) / num_masks, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_weights_make_every_number_of_tokens_count_alike(n: int) -> None:
    k = np.arange(1, n + 1)
    chance = np.sqrt(k / n) - np.sqrt((k - 1) / n)
    np.testing.assert_allclose(count_weights(k, np.array(n)) * chance, 1 / k, rtol=1e-9)
    assert mean_masked_share(n) == pytest.approx((k * chance).sum() / n)


def test_masks_hide_as_many_hideable_tokens_as_they_say() -> None:
    hideable_WL = torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) < 0.6
    hideable_WL[:, 3] = True
    masks = EvaluationMasks(hideable_WL, 6, seed=1)
    hidden_WML = every_mask(masks)
    np.testing.assert_array_equal(hidden_WML.sum(2).numpy(), masks.k_WM)
    assert not (hidden_WML & ~hideable_WL[:, None]).any()


@pytest.mark.parametrize("num_masks", [2, 4, 8, 20])
def test_weights_of_a_window_add_up_and_its_tokens_weigh_more_nearly_alike_than_by_chance(num_masks: int) -> None:
    masks = EvaluationMasks(torch.ones(200, 128, dtype=torch.bool), num_masks, seed=0)
    assert masks.weight_WM.mean(axis=1) == pytest.approx(np.ones(200), abs=0.05)
    weight_WM1 = masks.token_weight_R.view(200, num_masks, 1)
    weighed_WL = (every_mask(masks) * weight_WM1).mean(1)
    assert weighed_WL.mean().item() == pytest.approx(1.0, abs=0.01)
    shuffled = every_mask(masks)[..., torch.randperm(128)].clone()
    for m in range(num_masks):
        shuffled[:, m] = shuffled[:, m, torch.randperm(128)]
    by_chance_WL = (shuffled * weight_WM1).mean(1)
    assert weighed_WL.var() < {2: 0.8, 4: 0.5, 8: 0.25, 20: 0.25}[num_masks] * by_chance_WL.var()


def test_rows_do_not_depend_on_what_is_asked_with_them() -> None:
    masks = EvaluationMasks(torch.ones(5, 12, dtype=torch.bool), 3, seed=0)
    alone = torch.cat([masks.rows(torch.tensor([row]))[1] for row in range(15)])
    assert torch.equal(alone, every_mask(masks).view(15, -1))
    repeated, hidden = masks.rows(torch.tensor([7, 2, 2]))
    assert repeated.tolist() == [2, 0, 0]
    assert torch.equal(hidden, alone[[7, 2, 2]])


def test_a_window_keeps_its_masks_when_others_follow() -> None:
    few, many = (EvaluationMasks(torch.ones(num, 12, dtype=torch.bool), 3, seed=0) for num in (4, 9))
    assert torch.equal(every_mask(few), every_mask(many)[:4])
