from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossover.platform.analysis.comparisons import clustered_mean, mean_difference, mean_over_seeds
from crossover.platform.analysis.losses import DocumentLosses
from crossover.trainers.record import WindowFacts

LN2 = np.log(2)


def test_with_documents_of_one_size_the_error_is_that_of_a_plain_mean() -> None:
    nats_D = np.random.default_rng(0).normal(100, 7, 40)
    value, se = clustered_mean(nats_D, np.full(40, 64.0))
    per_document = nats_D / 64 / LN2
    assert value == pytest.approx(per_document.mean())
    assert se == pytest.approx(stats.sem(per_document))


def test_with_documents_of_many_sizes_the_error_agrees_with_the_jackknife() -> None:
    generator = np.random.default_rng(1)
    bytes_D = generator.integers(50, 4_000, 300).astype(float)
    nats_D = bytes_D * generator.normal(1.4, 0.3, 300)
    value, se = clustered_mean(nats_D, bytes_D)
    left_out = (nats_D.sum() - nats_D) / (bytes_D.sum() - bytes_D) / LN2
    jackknife = np.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert value == pytest.approx(nats_D.sum() / bytes_D.sum() / LN2)
    assert se == pytest.approx(jackknife, rel=0.02)


def test_with_one_seed_the_interval_is_the_t_interval_over_documents() -> None:
    nats_D = np.random.default_rng(2).normal(3, 7, 25)
    found = mean_over_seeds(nats_D[None], np.full(25, 64.0))
    expected = stats.ttest_1samp(nats_D / 64 / LN2, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.num_seeds == 1


def test_without_an_error_of_documents_the_interval_is_the_t_interval_over_seeds() -> None:
    seeds = np.array([0.10, 0.22, 0.17, 0.31])
    bytes_D = np.random.default_rng(3).integers(50, 500, 30).astype(float)
    found = mean_over_seeds(seeds[:, None] * bytes_D * LN2, bytes_D)
    expected = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    assert found.per_seed == pytest.approx(tuple(seeds))
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_the_error_of_documents_does_not_shrink_with_seeds() -> None:
    """Seeds share the test documents: a thousand seeds leave the documents' error where it was."""
    nats_D = np.random.default_rng(4).normal(3, 7, 25)
    bytes_D = np.full(25, 64.0)
    one, many = mean_over_seeds(nats_D[None], bytes_D), mean_over_seeds(np.tile(nats_D, (50, 1)), bytes_D)
    assert many.se == pytest.approx(one.se)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_the_interval_covers_the_truth_when_both_sources_matter(num_seeds: int) -> None:
    generator = np.random.default_rng(5)
    num_documents, truth, covered = 40, 0.05, 0
    bytes_D = np.full(num_documents, 100.0)
    for _ in range(1_000):
        document_D = generator.normal(0, 0.3, num_documents)
        seed_S1 = generator.normal(0, 0.05, (num_seeds, 1))
        both_SD = generator.normal(0, 0.1, (num_seeds, num_documents))
        found = mean_over_seeds((truth + document_D + seed_S1 + both_SD) * 100 * LN2, bytes_D)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 1_000 <= 0.995


def losses(bits_W: np.ndarray, document_W: np.ndarray) -> DocumentLosses:
    num_bytes = np.full(len(bits_W), 120)
    facts = WindowFacts(num_bytes, num_bytes, document_W)
    return DocumentLosses.of(facts, [(bits_W * 120 * LN2).astype(np.float32)])


def test_a_paired_difference_has_the_sign_of_first_less_second_and_forgets_what_is_common() -> None:
    generator = np.random.default_rng(6)
    document_W = np.repeat(np.arange(50), 4)
    hard_W = np.repeat(generator.normal(2, 0.5, 50), 4)
    worse = losses(hard_W + 0.1 + generator.normal(0, 0.01, 200), document_W)
    better = losses(hard_W + generator.normal(0, 0.01, 200), document_W)
    found = mean_difference([worse], [better])
    assert found.low < 0.1 < found.high and found.decided
    assert found.se < clustered_mean(worse.nats_DE[:, 0], worse.bytes_D)[1] / 20
    assert mean_difference([better], [worse]).mean == pytest.approx(-found.mean)


def test_windows_of_a_document_count_as_one_observation() -> None:
    """Each document split in ten equal windows knows no more than the document."""
    per_document = np.random.default_rng(7).normal(2, 0.5, 30)
    whole = losses(per_document, np.arange(30))
    split = losses(np.repeat(per_document, 10), np.repeat(np.arange(30), 10))
    expected = clustered_mean(whole.nats_DE[:, 0], whole.bytes_D)
    assert clustered_mean(split.nats_DE[:, 0], split.bytes_D) == pytest.approx(expected, rel=1e-5)


def test_one_document_gives_no_finite_interval_and_decides_nothing() -> None:
    found = mean_over_seeds(np.array([[5.0]]), np.array([100.0]))
    assert not found.decided and found.low == -np.inf and found.high == np.inf
