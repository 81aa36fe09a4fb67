"""The bound against likelihoods by enumeration, and the stratification that keeps its error small."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from exact_models import TINY, ExactPosterior, Uniform, all_sequences, batch_of, tiny_transformer, windows_of
from torch import Tensor

from crossover.trainers.evaluate import within_windows
from crossover.trainers.objectives import LanguageModel, WindowNats
from crossover.trainers.objectives.masked_diffusion import MaskedDiffusion
from crossover.trainers.objectives.noise import training_times

OBJECTIVE = MaskedDiffusion(mask=TINY.mask)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditional_nats(model: LanguageModel, tokens_L: Tensor, hidden: set[int]) -> dict[int, float]:
    """-log p(x_i | tokens that are not hidden) for each hidden i, straight from the model."""
    inputs = tokens_L.clone()
    inputs[list(hidden)] = TINY.mask
    with torch.no_grad():
        logits = model.logits(model.hidden(inputs[None], causal=False))[0].double()
    return {i: -logits[i].log_softmax(-1)[tokens_L[i]].item() for i in hidden}


def enumerated_bound(model: LanguageModel, tokens_L: Tensor) -> float:
    """E_k E_S (n/k) sum over S, over every k and every S."""
    n = len(tokens_L)
    of_k = [
        np.mean([sum(conditional_nats(model, tokens_L, set(s)).values()) for s in itertools.combinations(range(n), k)])
        * n
        / k
        for k in range(1, n + 1)
    ]
    return float(np.mean(of_k))


def chain_nats(model: LanguageModel, tokens_L: Tensor, order: Sequence[int]) -> float:
    """-log p of a sequence whose tokens are revealed in this order."""
    return sum(conditional_nats(model, tokens_L, set(order[j:]))[order[j]] for j in range(len(order)))


def exact_k_nats(model: LanguageModel, tokens_L: Tensor, num_sets: int, random: np.random.Generator) -> np.ndarray:
    """Sum over every k of the mean nats of k random tokens, hidden together: as many independent estimates."""
    n = len(tokens_L)
    return np.array(
        [
            sum(
                np.mean(list(conditional_nats(model, tokens_L, set(random.permutation(n)[:k].tolist())).values()))
                for k in range(1, n + 1)
            )
            for _ in range(num_sets)
        ]
    )


def error_of(result: WindowNats) -> np.ndarray:
    """Monte-Carlo error of each window by its own masks."""
    noise_WM = within_windows(result.changed_by_masks, result.weights)
    return noise_WM.std(axis=1) / noise_WM.shape[1] ** 0.5


def any_order_nll(model: LanguageModel, tokens_L: Tensor) -> float:
    """-log of the mean over all orders of generation of p(x | order): a proper distribution over sequences."""
    n = len(tokens_L)
    log_p = [-chain_nats(model, tokens_L, order) for order in itertools.permutations(range(n))]
    return -float(torch.tensor(log_p, dtype=torch.float64).logsumexp(0)) + math.log(len(log_p))


def test_bound_of_the_exact_posterior_is_the_exact_likelihood() -> None:
    model = ExactPosterior(3)
    for tokens_L in all_sequences(3)[::4]:
        assert enumerated_bound(model, tokens_L) == pytest.approx(model.nll(tokens_L), rel=1e-9)


def test_bound_is_above_the_exact_likelihood_of_a_model() -> None:
    model = tiny_transformer().eval()
    sequences = all_sequences(3)
    exact = np.array([any_order_nll(model, row) for row in sequences])
    bound = np.array([enumerated_bound(model, row) for row in sequences])
    assert np.exp(-exact).sum() == pytest.approx(1.0, abs=1e-5)
    assert (bound >= exact - 1e-6).all()
    assert (bound - exact).max() > 0.01  # this model's orders disagree, so the bound is not tight
    assert np.exp(-bound).sum() < 1


@pytest.mark.parametrize("model", [ExactPosterior(3), tiny_transformer().eval()], ids=["posterior", "transformer"])
def test_estimate_converges_to_the_enumerated_bound(model: LanguageModel) -> None:
    tokens_WL = all_sequences(3)[[1, 9, 20]]
    result = OBJECTIVE.window_nats(model, windows_of(tokens_WL), num_masks=1500, seed=0, batch_size=900)
    standard_error = error_of(result)
    expected = np.array([enumerated_bound(model, row) for row in tokens_WL])
    assert (np.abs(result.nats_WM.mean(axis=1) - expected) < 4 * standard_error + 1e-6).all()
    assert (standard_error < 0.03 * expected).all()


@pytest.mark.parametrize("num_masks", [1, 2, 3])
def test_estimates_of_few_masks_are_unbiased(num_masks: int) -> None:
    """Over seeds and copies of a window: balance and strata favour no token and no rate."""
    model, tokens_L = tiny_transformer().eval(), all_sequences(3)[11]
    copies = windows_of(tokens_L.repeat(800, 1))
    nats_SM = np.concatenate(
        [
            OBJECTIVE.window_nats(model, copies, num_masks=num_masks, seed=seed, batch_size=800).nats_WM
            for seed in (0, 1)
        ]
    )
    mean, error = nats_SM.mean(), nats_SM.mean(axis=1).std() / 1600**0.5
    assert abs(mean - enumerated_bound(model, tokens_L)) < 3.5 * error
    assert error < 0.02 * mean


def test_two_other_estimators_of_the_bound_agree() -> None:
    """Random orders of revealing token by token, and independent sets of every size: both without importance."""
    model, random = tiny_transformer(seed=3).eval(), np.random.default_rng(0)
    tokens_L = torch.tensor([0, 2, 1, 1, 0, 2, 2, 1, 0, 1])
    result = OBJECTIVE.window_nats(model, windows_of(tokens_L[None]), num_masks=1000, seed=0, batch_size=1000)
    ours, error = result.nats_WM.mean(), error_of(result)[0]
    orders = np.array([chain_nats(model, tokens_L, random.permutation(10).tolist()) for _ in range(120)])
    sets = exact_k_nats(model, tokens_L, 120, random)
    for other in (orders, sets):
        other_error = other.std(ddof=1) / len(other) ** 0.5
        assert abs(other.mean() - ours) < 3.5 * math.hypot(error, other_error)
        assert other_error < 0.02 * ours
    assert error < 0.03 * ours


def test_each_estimate_is_the_term_of_its_own_mask() -> None:
    model = ExactPosterior(4)
    tokens_WL, lengths = all_sequences(4)[[7, 30, 77]], [4, 4, 4]
    result = OBJECTIVE.window_nats(model, windows_of(tokens_WL, lengths), num_masks=5, seed=3, batch_size=4)
    inputs_RL = torch.cat(model.seen[1:])  # before it a single mask
    assert model.seen[0].tolist() == [[TINY.mask]]
    unseen_V = -model.logits(model.hidden(torch.tensor([[TINY.mask]]), causal=False))[0, 0]
    assert result.num_masked_WM is not None
    for row, inputs_L in enumerate(inputs_RL):
        window, mask = divmod(row, 5)
        control_L = 0.75 * unseen_V[tokens_WL[window]]
        hidden = {i for i in range(4) if inputs_L[i] == TINY.mask}
        k = len(hidden)
        assert k == result.num_masked_WM[window, mask]
        chance = math.sqrt(k / 4) - math.sqrt((k - 1) / 4)
        costs = conditional_nats(model, tokens_WL[window], hidden)
        term = sum(nats - control_L[i].item() for i, nats in costs.items()) / (k * chance) + control_L.sum().item()
        assert result.nats_WM[window, mask] == pytest.approx(term, rel=1e-5)


def test_every_set_of_a_size_is_masked_equally_often() -> None:
    model = Uniform()
    OBJECTIVE.window_nats(model, windows_of(torch.zeros(300, 4, dtype=torch.int64)), num_masks=40, seed=0)
    sets = Counter(tuple(row) for row in (torch.cat(model.seen[1:]) == TINY.mask).tolist())
    for k in range(1, 5):
        counts = [count for chosen, count in sets.items() if sum(chosen) == k]
        assert len(counts) == math.comb(4, k)
        expected = 12_000 * (math.sqrt(k / 4) - math.sqrt((k - 1) / 4))
        assert sum(counts) == pytest.approx(expected, abs=12)  # u is stratified over all pairs
        chi_square = sum((count - expected / len(counts)) ** 2 for count in counts) / (expected / len(counts))
        assert chi_square < 25


def test_masks_are_common_to_all_models_and_batch_sizes_and_differ_by_seed() -> None:
    tokens_WL, lengths = all_sequences(5)[::11], [1 + i % 5 for i in range(23)]
    model, other = tiny_transformer(), tiny_transformer(seed=1)
    windows = windows_of(tokens_WL, lengths)

    def run(model: LanguageModel, seed: int, batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        result = OBJECTIVE.window_nats(model, windows, num_masks=3, seed=seed, batch_size=batch_size)
        return result.nats_WM, result.num_masked_WM

    nats, k = run(model, 0, 64)
    for batch_size in (1, 2, 7):
        again, k_again = run(model, 0, batch_size)
        np.testing.assert_array_equal(k, k_again)
        np.testing.assert_allclose(nats, again, rtol=1e-5)
    np.testing.assert_array_equal(k, run(other, 0, 64)[1])
    assert not np.allclose(nats, run(model, 1, 64)[0])


@pytest.mark.parametrize("world_size", [2, 3, 64])
def test_the_sum_over_workers_is_the_result_of_one_to_the_bit(world_size: int) -> None:
    model, windows = ExactPosterior(4), windows_of(all_sequences(4)[::9])
    alone = OBJECTIVE.window_nats(model, windows, num_masks=3, seed=5)
    parts = [
        OBJECTIVE.window_nats(model, windows, num_masks=3, seed=5, batch_size=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    np.testing.assert_array_equal(sum(part.nats_WM for part in parts), alone.nats_WM)


def test_a_window_keeps_its_masks_when_others_follow_it() -> None:
    model, tokens_WL = tiny_transformer(), all_sequences(4)
    few = OBJECTIVE.window_nats(model, windows_of(tokens_WL[:10]), num_masks=2, seed=0).nats_WM
    many = OBJECTIVE.window_nats(model, windows_of(tokens_WL), num_masks=2, seed=0).nats_WM
    np.testing.assert_allclose(few, many[:10], rtol=1e-5)


def test_padding_is_neither_masked_nor_seen_nor_scored() -> None:
    model = tiny_transformer()
    tokens_WL = all_sequences(6)[::80]
    lengths = [1 + i % 4 for i in range(len(tokens_WL))]
    result = OBJECTIVE.window_nats(model, windows_of(tokens_WL, lengths), num_masks=4, seed=0)
    assert result.num_masked_WM is not None
    assert (result.num_masked_WM <= np.array(lengths)[:, None]).all()
    refilled = tokens_WL.masked_fill(~windows_of(tokens_WL, lengths).valid_WL, 2)
    same = OBJECTIVE.window_nats(model, windows_of(refilled, lengths), num_masks=4, seed=0)
    np.testing.assert_allclose(result.nats_WM, same.nats_WM, rtol=1e-5)
    for i, n in enumerate(lengths):
        if n == 1:  # one token has one mask, and so an exact cost
            alone = conditional_nats(model.eval(), tokens_WL[i, :1], {0})[0]
            np.testing.assert_allclose(result.nats_WM[i], alone, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_training_times_lie_one_in_each_stratum_and_are_uniform(batch_size: int) -> None:
    drawn = torch.stack([training_times(batch_size, generator(seed)) for seed in range(4000)]).double()
    uniform = (drawn - 1e-3) / (1 - 1e-3)
    assert (drawn >= 1e-3 - 1e-9).all()
    assert (drawn < 1).all()
    strata = (uniform.sort(1).values * batch_size + 1e-5).floor()
    assert (strata == torch.arange(batch_size)).all()
    for row in range(batch_size):  # each row is uniform, whatever its place: Kolmogorov-Smirnov
        distance = (uniform[:, row].sort().values - (torch.arange(4000) + 0.5) / 4000).abs().max().item()
        assert distance < 1.95 / 4000**0.5


def test_training_loss_estimates_the_bound() -> None:
    model = tiny_transformer().eval()
    tokens_L = torch.tensor([0, 2, 1])
    batch = batch_of(tokens_L.repeat(256, 1))
    with torch.no_grad():
        losses = torch.tensor(
            [OBJECTIVE.training_loss(model, batch, generator(seed)).nats.item() / 256 for seed in range(300)]
        ).double()
    standard_error = losses.std().item() / 300**0.5
    # What t below 1e-3 would add is far below the error: 3 tokens x 1e-3 x a few nats.
    assert losses.mean().item() == pytest.approx(enumerated_bound(model, tokens_L), abs=4 * standard_error + 0.01)
    assert standard_error < 0.01 * enumerated_bound(model, tokens_L)


def test_training_masks_only_valid_tokens_and_counts_all_of_them() -> None:
    model = Uniform()
    tokens = torch.ones(500, 3, dtype=torch.int64)
    lengths = [1 + i % 3 for i in range(500)]
    loss = OBJECTIVE.training_loss(model, batch_of(tokens, lengths), generator())
    masked = model.seen[0] == TINY.mask
    valid = windows_of(tokens, lengths).valid_WL
    assert not masked[~valid].any()
    assert masked[valid].float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert loss.num_tokens == sum(lengths)


def test_a_step_that_masks_nothing_has_zero_loss_and_gradient() -> None:
    model = tiny_transformer()
    seed = next(s for s in range(100) if training_times(1, generator(s)).item() < 0.02)
    loss = OBJECTIVE.training_loss(model, batch_of(torch.tensor([[1]])), generator(seed))
    loss.nats.backward()
    assert loss.nats.item() == 0.0
    assert loss.num_tokens == 1
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())
