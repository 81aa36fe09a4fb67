import numpy as np
import pytest
import torch
from exact_models import TINY, ExactPosterior, Uniform, all_sequences, batch_of, tiny_transformer, windows_of
from torch import Tensor

from crossover.trainers.config import RegularizationConfig
from crossover.trainers.objectives import LanguageModel
from crossover.trainers.objectives.autoregressive import Autoregressive, InputNoise


def objective(input_noise: float = 0.0, **noise: object) -> Autoregressive:
    return Autoregressive(begin=TINY.begin, mask=TINY.mask, noise=InputNoise(input_noise, **noise))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def window_nats(model: LanguageModel, tokens_WL: Tensor, lengths: list[int] | None = None) -> np.ndarray:
    result = objective().window_nats(model, windows_of(tokens_WL, lengths), num_masks=3, seed=0)
    assert result.num_masked_WM is None
    assert result.nats_WM.shape == (len(tokens_WL), 1)
    return result.nats_WM[:, 0]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_probabilities_of_all_sequences_sum_to_one(length: int) -> None:
    nats_W = window_nats(tiny_transformer(), all_sequences(length))
    assert np.exp(-nats_W).sum() == pytest.approx(1.0, abs=1e-5)
    assert nats_W.std() > 0.1


def test_exact_conditionals_give_the_exact_likelihood() -> None:
    model = ExactPosterior(3)
    expected = [model.nll(row) for row in all_sequences(3)]
    np.testing.assert_allclose(window_nats(model, all_sequences(3)), expected, rtol=1e-6)


def test_first_token_is_scored_after_begin_and_the_last_is_never_read() -> None:
    model = ExactPosterior(3)
    window_nats(model, torch.tensor([[0, 2, 1]]))
    assert model.seen[0].tolist() == [[TINY.begin, 0, 2]]


def test_short_window_costs_what_it_costs_alone() -> None:
    model, tokens = tiny_transformer(), all_sequences(4)[[5, 40, 71]]
    padded = window_nats(model, tokens, [4, 2, 1])
    alone = [window_nats(model, tokens[i : i + 1, :n])[0] for i, n in enumerate([4, 2, 1])]
    np.testing.assert_allclose(padded, alone, rtol=1e-5)


@pytest.mark.parametrize("world_size", [2, 3, 64])
def test_the_sum_over_workers_is_the_result_of_one_to_the_bit(world_size: int) -> None:
    model, tokens = ExactPosterior(4), all_sequences(4)[::9]
    parts = [
        objective().window_nats(
            model, windows_of(tokens), num_masks=1, seed=0, batch_size=2, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    np.testing.assert_array_equal(sum(part.nats_WM for part in parts)[:, 0], window_nats(model, tokens))


def test_training_loss_is_the_sum_of_the_windows() -> None:
    model, tokens = tiny_transformer(), all_sequences(4)[::7]
    lengths = [1 + i % 4 for i in range(len(tokens))]
    loss = objective().training_loss(model, batch_of(tokens, lengths), generator())
    assert loss.num_tokens == sum(lengths)
    assert loss.nats.item() == pytest.approx(window_nats(model, tokens, lengths).sum(), rel=1e-5)
    assert loss.nats.requires_grad


def test_input_noise_masks_the_asked_share_of_inputs_but_never_begin() -> None:
    model = Uniform()
    tokens = torch.zeros(4000, 3, dtype=torch.int64)
    noisy = objective(0.3)
    loss = noisy.training_loss(model, batch_of(tokens), generator())
    inputs = model.seen[0]
    assert (inputs[:, 0] == TINY.begin).all()
    assert (inputs[:, 1:] == TINY.mask).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert loss.num_tokens == 12_000
    assert loss.nats.item() == pytest.approx(12_000 * np.log(3), rel=1e-4)


def test_input_noise_repeats_by_seed_and_spares_evaluation() -> None:
    model, tokens = tiny_transformer(), all_sequences(4)
    noisy = objective(0.5)
    first, again, other = (noisy.training_loss(model, batch_of(tokens), generator(s)).nats.item() for s in (1, 1, 2))
    assert first == again
    assert first != other
    scored = noisy.window_nats(model, windows_of(tokens), num_masks=1, seed=0).nats_WM[:, 0]
    np.testing.assert_array_equal(scored, window_nats(model, tokens))


def test_dropout_is_off_in_evaluation_and_the_mode_comes_back() -> None:
    dropped = tiny_transformer(regularization=RegularizationConfig(dropout=0.5)).train()
    tokens = all_sequences(3)
    np.testing.assert_array_equal(window_nats(dropped, tokens), window_nats(tiny_transformer(), tokens))
    assert dropped.training
    window_nats(dropped.eval(), tokens)
    assert not dropped.training


def test_uniform_noise_gives_every_sequence_a_share_of_its_own() -> None:
    model, tokens = Uniform(), torch.zeros(400, 201, dtype=torch.int64)
    objective(0.6, is_uniform=True).training_loss(model, batch_of(tokens), generator())
    share_B = (model.seen[0][:, 1:] == TINY.mask).float().mean(1)
    quantiles = torch.quantile(share_B, torch.tensor([0.02, 0.25, 0.5, 0.75, 0.98]))
    torch.testing.assert_close(quantiles, torch.tensor([0.012, 0.15, 0.3, 0.45, 0.588]), rtol=0.1, atol=0.05)


def test_random_noise_puts_in_every_token_alike_and_no_mask() -> None:
    model, tokens = Uniform(), torch.zeros(3000, 3, dtype=torch.int64)
    objective(0.6, num_random_tokens=3).training_loss(model, batch_of(tokens), generator())
    inputs = model.seen[0][:, 1:]
    shares = [(inputs == token).float().mean().item() for token in range(5)]
    assert shares == pytest.approx([0.6, 0.2, 0.2, 0, 0], abs=0.02)


def test_loss_of_masked_input_is_minimized_beside_the_clean_one_and_not_reported() -> None:
    model, tokens = Uniform(), torch.zeros(2000, 5, dtype=torch.int64)
    both = objective(second_weight=0.4, second_share=0.5)
    loss = both.training_loss(model, batch_of(tokens), generator())
    clean, masked = model.seen
    assert (clean[:, 1:] == 0).all()
    assert (masked[:, 0] == TINY.begin).all()
    assert (masked[:, 1:] == TINY.mask).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert loss.auxiliary_nats is not None
    assert loss.auxiliary_nats.item() == pytest.approx(0.4 * loss.nats.item())
    assert loss.nats.item() == objective().training_loss(model, batch_of(tokens), generator()).nats.item()
    assert both.training_passes == 2
