"""The bound of block diffusion against enumeration, between the two objectives that it has as its ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from exact_models import TINY, all_sequences, batch_of, tiny_transformer, windows_of
from torch import Tensor

from crossover.trainers.evaluate import within_windows
from crossover.trainers.flops import training_flops_per_token
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives.block_diffusion import BlockDiffusion
from crossover.trainers.objectives.masked_diffusion import MaskedDiffusion


def conditional_nats(model: Transformer, tokens_L: Tensor, start: int, stop: int, hidden: tuple[int, ...]) -> float:
    """Nats of the hidden tokens of one block, from the plainest pass: clean tokens before it, then the noisy block."""
    noisy = tokens_L[start:stop].clone()
    noisy[[i - start for i in hidden]] = TINY.mask
    before = torch.arange(start)
    positions = torch.cat([before, torch.arange(start, stop)])
    visible = torch.ones(stop, stop, dtype=torch.bool)
    visible[:start, start:] = False
    for i in range(start):  # a clean token sees blocks up to its own
        visible[i, :start] = torch.arange(start) // (stop - start if start else 1) <= i // (stop - start)
    with torch.no_grad():
        h = model.hidden(
            torch.cat([tokens_L[:start], noisy])[None], causal=False, visible_LL=visible, positions_L=positions
        )
        logits = model.logits(h)[0].double()
    return float(sum(-logits[i].log_softmax(-1)[tokens_L[i]] for i in hidden))


def enumerated_bound(model: Transformer, tokens_L: Tensor, block_length: int) -> float:
    """Over every k and every set of every block; the length is a whole number of blocks."""
    bound = 0.0
    for start in range(0, len(tokens_L), block_length):
        places = range(start, start + block_length)
        of_k = [
            np.mean(
                [
                    conditional_nats(model, tokens_L, start, start + block_length, hidden)
                    for hidden in itertools.combinations(places, k)
                ]
            )
            * block_length
            / k
            for k in range(1, block_length + 1)
        ]
        bound += float(np.mean(of_k))
    return bound


def test_estimate_converges_to_the_enumerated_bound() -> None:
    model, tokens_WL = tiny_transformer().eval(), all_sequences(4)[[1, 30, 77]]
    objective = BlockDiffusion(mask=TINY.mask, block_length=2)
    nats_WM = objective.window_nats(model, windows_of(tokens_WL), num_masks=800, seed=0, batch_size=800).nats_WM
    expected = np.array([enumerated_bound(model, row, 2) for row in tokens_WL])
    error = nats_WM.std(axis=1) / 800**0.5
    assert (np.abs(nats_WM.mean(axis=1) - expected) < 4 * error + 1e-5).all()
    assert (error < 0.05 * expected).all()


def test_blocks_of_one_token_give_an_exact_likelihood() -> None:
    """Every token from those before it: probabilities of all sequences sum to one, and masks change nothing."""
    model = tiny_transformer().eval()
    result = BlockDiffusion(mask=TINY.mask, block_length=1).window_nats(
        model, windows_of(all_sequences(3)), num_masks=2, seed=0
    )
    np.testing.assert_allclose(result.nats_WM[:, 0], result.nats_WM[:, 1], rtol=1e-6)
    assert np.exp(-result.nats_WM[:, 0]).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("block_length", [4, 9])
def test_one_block_is_masked_diffusion(block_length: int) -> None:
    """The same bound, though estimated with other masks."""
    model, windows = tiny_transformer().eval(), windows_of(all_sequences(4)[::9], [1 + i % 4 for i in range(9)])
    asked = {"num_masks": 600, "seed": 5, "batch_size": 900}
    found = BlockDiffusion(mask=TINY.mask, block_length=block_length).window_nats(model, windows, **asked)
    expected = MaskedDiffusion(mask=TINY.mask).window_nats(model, windows, **asked)
    errors = [within_windows(r.changed_by_masks, r.weights).std(axis=1) / 600**0.5 for r in (found, expected)]
    difference_W = found.nats_WM.mean(axis=1) - expected.nats_WM.mean(axis=1)
    assert (np.abs(difference_W) < 4 * np.hypot(*errors) + 1e-5).all()
    assert (np.hypot(*errors) < 0.05 * expected.nats_WM.mean(axis=1)).all()


def test_training_loss_estimates_the_bound() -> None:
    model, tokens_L = tiny_transformer().eval(), torch.tensor([0, 2, 1, 1])
    objective, batch = BlockDiffusion(mask=TINY.mask, block_length=2), batch_of(tokens_L.repeat(256, 1))
    with torch.no_grad():
        losses = torch.tensor(
            [
                objective.training_loss(model, batch, torch.Generator().manual_seed(seed)).nats.item() / 256
                for seed in range(200)
            ]
        ).double()
    error = losses.std().item() / 200**0.5
    assert losses.mean().item() == pytest.approx(enumerated_bound(model, tokens_L, 2), abs=4 * error + 0.02)


def test_a_block_sees_nothing_of_those_after_it_and_no_mask_of_those_before() -> None:
    model, tokens = tiny_transformer().eval(), torch.tensor([[0, 2, 1, 1, 0, 2]])
    objective = BlockDiffusion(mask=TINY.mask, block_length=2)
    masked, valid = torch.tensor([[True, False, True, True, False, True]]), torch.ones(1, 6, dtype=torch.bool)

    def states(tokens: Tensor, masked: Tensor) -> Tensor:
        with torch.no_grad():
            h_ND, _ = objective._masked_states(model, tokens, valid, masked)
        return h_ND

    before = states(tokens, masked)[:4]
    later = tokens.clone()
    later[0, 4] = 1
    torch.testing.assert_close(states(later, masked)[:3], before[:3])
    assert (states(later, masked)[3] - before[3]).abs().max() > 1e-4
    earlier = torch.tensor([[False, True, True, True, False, True]])
    torch.testing.assert_close(states(tokens, earlier)[1:4], before[1:4])
    hidden = tokens.clone()
    hidden[0, 0] = 2  # masked itself, but read clean by the blocks after it
    torch.testing.assert_close(states(hidden, masked)[:1], before[:1])
    assert (states(hidden, masked)[1] - before[1]).abs().max() > 1e-4


def test_given_tokens_are_only_read() -> None:
    model, windows = tiny_transformer().eval(), windows_of(all_sequences(4)[::9])
    objective = BlockDiffusion(mask=TINY.mask, block_length=2)
    given = np.full(9, 3)
    found = objective.window_nats(model, windows, num_masks=2, seed=0, given_W=given)
    expected = [conditional_nats(model, row, 2, 4, (3,)) for row in windows.tokens_WL]
    np.testing.assert_allclose(found.nats_WM[:, 0], expected, rtol=1e-4)
    assert (found.num_masked_WM == 1).all()


def test_flops_count_both_copies_and_the_keys_of_each() -> None:
    shape = tiny_transformer().shape
    length, mask = 8, TINY.mask
    blocks, whole = BlockDiffusion(mask=mask, block_length=2), MaskedDiffusion(mask=mask)
    matrices = 2 * shape.num_params_blocks
    keys = (2 + 4 + 6 + 8) / 4
    forward = 2 * (matrices + 4 * shape.num_layers * shape.width * keys)
    head = 2 * shape.num_params_head * whole.training_head_fraction
    assert training_flops_per_token(shape, blocks, length) == pytest.approx(3 * (forward + head))
    assert blocks.keys_per_input(5) == pytest.approx((2 * 2 + 2 * 4 + 1 * 5) / 5)
    assert blocks.evaluation_head_fraction(5) == pytest.approx((1.5 + 1.5 + 1) / 5)
