from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crossover.trainers.data import Windows
from crossover.trainers.evaluate import WindowScores, monte_carlo_se, paired, paired_bits_per_byte, score
from crossover.trainers.objectives import WindowNats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def scores(
    nats: list[float],
    tokens: list[int] | None = None,
    num_bytes: list[int] | None = None,
    document: list[int] | None = None,
) -> WindowScores:
    return WindowScores(
        np.array(nats, dtype=np.float32),
        np.array(tokens or [10] * len(nats)),
        np.array(num_bytes or [10] * len(nats)),
        np.array(document or list(range(len(nats)))),
    )


def test_loss_and_bits_per_byte_are_ratios_of_sums() -> None:
    found = scores([10.0, 40.0], tokens=[10, 30], num_bytes=[20, 80])
    assert found.loss == pytest.approx(50 / 40)
    assert found.bits_per_byte == pytest.approx(50 / (math.log(2) * 100))


def test_error_is_that_of_a_mean_when_windows_are_equal_and_independent() -> None:
    nats = np.random.default_rng(0).normal(20, 3, size=50).astype(np.float32)
    found = scores(nats.tolist())
    assert found.loss_se == pytest.approx(nats.std(ddof=1) / math.sqrt(50) / 10, rel=1e-5)
    assert found.bits_per_byte_se == pytest.approx(found.loss_se / math.log(2), rel=1e-6)


def test_error_is_that_of_leaving_out_one_document_at_a_time() -> None:
    rng = np.random.default_rng(1)
    document = rng.integers(0, 7, size=40)
    tokens = rng.integers(5, 100, size=40)
    nats = (tokens * rng.normal(2, 0.3, size=40)).astype(np.float32)
    found = scores(nats.tolist(), tokens.tolist(), tokens.tolist(), document.tolist())
    without = np.array([float(nats[document != d].sum() / tokens[document != d].sum()) for d in np.unique(document)])
    assert found.loss_se == pytest.approx(math.sqrt(6 / 7 * ((without - found.loss) ** 2).sum()), rel=1e-4)


def test_copies_of_a_window_in_one_document_bring_no_precision() -> None:
    once = scores([10.0, 20.0, 12.0, 30.0])
    often = scores([10.0, 20.0, 12.0, 30.0] * 5, document=[0, 1, 2, 3] * 5)
    assert often.loss_se == pytest.approx(once.loss_se)


def test_error_is_unknown_when_all_windows_are_of_one_document() -> None:
    assert math.isnan(scores([10.0, 20.0], document=[3, 3]).loss_se)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_window_that_is_not_finite_makes_the_loss_not_finite(value: float) -> None:
    found = scores([10.0, value, 12.0])
    assert not math.isfinite(found.loss)
    assert not math.isfinite(found.bits_per_byte)
    assert not math.isfinite(found.loss_se)


def documents_like_source_files(rng: np.random.Generator, count: int) -> tuple[Integers, Integers]:
    """Windows by document, very unequal; the last window of each is shorter."""
    length = np.exp(rng.normal(1.2, 1.0, size=count)) * 128
    document = np.repeat(np.arange(count), np.ceil(length / 128).astype(int))
    tokens = np.full(len(document), 128)
    last = np.flatnonzero(np.diff(document, append=count))
    tokens[last] = np.maximum(1, length.astype(int) % 128)
    return document, tokens


def correlated_nats(rng: np.random.Generator, document: Integers, tokens: Integers) -> Floats:
    of_document = rng.normal(0, 0.3, size=document.max() + 1)
    return tokens * (2 + of_document[document] + rng.normal(0, 0.4, size=len(document)))


def test_clustered_error_is_the_scatter_over_new_documents() -> None:
    rng = np.random.default_rng(2)
    losses, errors, naive = [], [], []
    for _ in range(600):
        document, tokens = documents_like_source_files(rng, 40)
        nats = correlated_nats(rng, document, tokens)
        found = scores(nats.tolist(), tokens.tolist(), tokens.tolist(), document.tolist())
        losses.append(found.loss)
        errors.append(found.loss_se)
        naive.append(replace(found, document_W=np.arange(len(document))).loss_se)
    scatter = np.std(losses, ddof=1)
    assert 0.9 < np.sqrt(np.mean(np.square(errors))) / scatter < 1.25
    assert np.mean(naive) < 0.7 * scatter  # what ignoring documents would claim


def test_paired_difference_has_its_own_smaller_error() -> None:
    rng = np.random.default_rng(3)
    differences, errors, unpaired = [], [], []
    for _ in range(400):
        document, tokens = documents_like_source_files(rng, 40)
        common = correlated_nats(rng, document, tokens)
        a, b = (
            scores(
                (common + tokens * rng.normal(shift, 0.1, size=len(tokens))).tolist(),
                tokens.tolist(),
                tokens.tolist(),
                document.tolist(),
            )
            for shift in (0.05, 0.0)
        )
        found = paired(a, b)
        differences.append(found.difference)
        errors.append(found.se)
        unpaired.append(math.hypot(a.loss_se, b.loss_se))
    assert np.mean(differences) == pytest.approx(0.05, abs=0.005)
    assert 0.9 < np.sqrt(np.mean(np.square(errors))) / np.std(differences, ddof=1) < 1.25
    assert np.mean(errors) < 0.3 * np.mean(unpaired)


def test_paired_difference_of_equal_scores_is_zero_and_certain() -> None:
    found = paired(scores([1.0, 2.0, 3.0]), scores([1.0, 2.0, 3.0]))
    assert (found.difference, found.se) == (0.0, 0.0)


def test_paired_difference_is_that_of_the_losses_in_both_units() -> None:
    a = scores([10.0, 25.0, 31.0], tokens=[10, 20, 30], num_bytes=[9, 25, 30])
    b = scores([12.0, 20.0, 30.0], tokens=[10, 20, 30], num_bytes=[9, 25, 30])
    assert paired(a, b).difference == pytest.approx(a.loss - b.loss)
    assert paired_bits_per_byte(a, b).difference == pytest.approx(a.bits_per_byte - b.bits_per_byte)
    assert paired(b, a).se == pytest.approx(paired(a, b).se)


def test_scores_of_other_windows_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="document_W differs"):
        paired(scores([1.0, 2.0]), scores([1.0, 2.0], document=[0, 0]))
    with pytest.raises(ValueError, match="num_tokens_W differs"):
        paired(scores([1.0, 2.0]), scores([1.0, 2.0], tokens=[10, 11]))


def stratified_counts(rng: np.random.Generator, tokens: Integers, num_masks: int) -> Integers:
    """One mask rate in each of as many strata as there are pairs, dealt out at random."""
    num_pairs = len(tokens) * num_masks
    uniform = (rng.permutation(num_pairs) + rng.random(num_pairs)) / num_pairs
    return 1 + (uniform.reshape(len(tokens), num_masks) * tokens[:, None]).astype(np.int64)


def masked_nats(rng: np.random.Generator, nll_WL: Floats, rise: float, k_WM: Integers, tokens: Integers) -> Floats:
    """n/k times the nats of k tokens hidden at random, each of which costs more the more are hidden."""
    position_L, n_W1 = np.arange(nll_WL.shape[1]), tokens[:, None]
    key_WML = np.where(position_L < n_W1[:, None], rng.random((*k_WM.shape, len(position_L))), 2.0)
    shuffled_WML = np.take_along_axis(nll_WL[:, None], key_WML.argsort(axis=-1), axis=-1)
    hidden_WM = (shuffled_WML * (position_L < k_WM[:, :, None])).sum(axis=-1)
    nats_WM: Floats = n_W1 / k_WM * hidden_WM * (1 + rise * k_WM / n_W1)
    return nats_WM


@pytest.mark.parametrize("num_masks", [2, 4])
def test_monte_carlo_error_is_the_scatter_over_new_masks_of_the_same_windows(num_masks: int) -> None:
    rng = np.random.default_rng(num_masks)
    tokens = np.where(rng.random(96) < 0.1, rng.integers(3, 64, size=96), 64)
    hardness = np.exp(rng.normal(0, 0.3, size=(96, 1)))
    nll_WL = hardness * rng.gamma(0.5, 2.0, size=(96, 64))
    losses, errors = [], []
    for _ in range(300):
        k_WM = stratified_counts(rng, tokens, num_masks)
        nats_WM = masked_nats(rng, nll_WL, 1.5, k_WM, tokens)
        losses.append(nats_WM.mean(axis=1).sum() / tokens.sum())
        errors.append(monte_carlo_se(WindowNats(nats_WM, k_WM), tokens))
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(losses, ddof=1)
    assert 0.85 < ratio < 1.25


def test_what_a_mask_rate_costs_on_average_is_no_error() -> None:
    rng = np.random.default_rng(5)
    tokens = np.full(400, 64)
    k_WM = stratified_counts(rng, tokens, 2)
    of_window, noise = rng.normal(100, 30, size=(400, 1)), rng.normal(0, 1.0, size=(400, 2))
    of_rate = 10 * (k_WM / 64) ** 2
    expected = 1.0 / math.sqrt(800) / 64
    assert monte_carlo_se(WindowNats(of_window + noise, k_WM), tokens) == pytest.approx(expected, rel=0.08)
    assert monte_carlo_se(WindowNats(of_window + of_rate + noise, k_WM), tokens) == pytest.approx(expected, rel=0.1)
    assert (of_rate + noise).std() > 2.5 * noise.std()


def test_monte_carlo_error_is_unknown_with_one_mask_or_values_that_are_not_finite() -> None:
    tokens, k_WM = np.array([8, 8, 8]), np.array([[1, 5], [3, 8], [2, 6]])
    assert math.isnan(monte_carlo_se(WindowNats(np.ones((3, 1)), k_WM[:, :1]), tokens))
    assert math.isnan(monte_carlo_se(WindowNats(np.array([[1.0, math.nan], [1, 2], [2, 3]]), k_WM), tokens))


class Fake:
    """Answers with given nats, and remembers what it was asked."""

    def __init__(self, result: WindowNats) -> None:
        self.result = result
        self.asked: dict[str, int] = {}

    def window_nats(self, model: object, windows: Windows, **asked: int) -> WindowNats:
        self.asked = asked
        return self.result


def windows_of(tokens: list[int]) -> Windows:
    lengths = np.array(tokens)
    valid = torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]
    return Windows(
        torch.zeros_like(valid, dtype=torch.int64), valid, lengths, lengths - 1, np.arange(len(tokens)), "hash"
    )


def test_score_of_an_exact_objective_has_no_monte_carlo_error() -> None:
    objective = Fake(WindowNats(np.array([[8.0], [6.0], [7.0]])))
    found = score(None, objective, windows_of([4, 4, 4]), 2, seed=7, batch_size=3)  # type: ignore[arg-type]
    assert found.se_mc == 0.0
    assert found.loss == pytest.approx(21 / 12)
    assert found.bits_per_byte == pytest.approx(21 / 9 / math.log(2))
    assert objective.asked == {"num_masks": 2, "seed": 7, "batch_size": 3, "rank": 0, "world_size": 1}


def test_score_of_a_bound_is_the_mean_over_masks_with_its_monte_carlo_error() -> None:
    rng = np.random.default_rng(0)
    windows = windows_of([16] * 40)
    k_WM = stratified_counts(rng, windows.num_tokens_W, 2)
    nats_WM = rng.normal(40, 2, size=(40, 2))
    found = score(None, Fake(WindowNats(nats_WM, k_WM)), windows, 2, seed=0)  # type: ignore[arg-type]
    assert found.loss == pytest.approx(nats_WM.mean() / 16)
    assert found.se_mc == monte_carlo_se(WindowNats(nats_WM, k_WM), windows.num_tokens_W)
    assert found.nats_W.dtype == np.float32
