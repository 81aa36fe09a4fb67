"""Schedules, weights and rules of masking: the same bound whatever the schedule, and what each rule changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from exact_models import TINY, Uniform, batch_of, tiny_transformer
from torch import Tensor

from crossover.trainers.objectives.block_diffusion import BlockDiffusion
from crossover.trainers.objectives.masked_diffusion import MaskedDiffusion
from crossover.trainers.objectives.noise import TrainingNoise, training_times

pytestmark = pytest.mark.integration

SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "linear"},
    {"schedule": "cosine"},
    {"schedule": "polynomial", "power": 2.0},
    {"schedule": "polynomial", "power": 0.5},
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean_loss(noise: TrainingNoise, num: int = 400) -> tuple[float, float]:
    """Nats of one sequence, and the standard error."""
    model, batch = tiny_transformer().eval(), batch_of(torch.tensor([[0, 2, 1]]).repeat(256, 1))
    objective = MaskedDiffusion(mask=TINY.mask, noise=noise)
    with torch.no_grad():
        losses = [objective.training_loss(model, batch, generator(seed)).nats.item() / 256 for seed in range(num)]
    values = torch.tensor(losses).double()
    return values.mean().item(), values.std().item() / num**0.5


@pytest.mark.parametrize("settings", SCHEDULES[1:])
def test_every_schedule_estimates_the_same_bound(settings: dict[str, Any]) -> None:
    expected, error = mean_loss(TrainingNoise())
    found, other = mean_loss(TrainingNoise(**settings))
    assert found == pytest.approx(expected, abs=4 * (error + other) + 0.02)
    assert other < 0.02 * expected


@pytest.mark.parametrize("settings", SCHEDULES)
def test_share_that_is_masked_is_that_of_the_schedule(settings: dict[str, Any]) -> None:
    noise, valid = TrainingNoise(**settings), torch.ones(4000, 12, dtype=torch.bool)
    masked = noise.draw(valid, generator()).masked_BL
    expected = {"linear": 0.5, "cosine": 2 / math.pi}.get(noise.schedule, 1 / (noise.power + 1))
    assert noise.mean_share == pytest.approx(expected, abs=1e-3)
    assert masked.float().mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("settings", SCHEDULES)
def test_uniform_weights_are_one_a_token_on_average(settings: dict[str, Any]) -> None:
    model, tokens = Uniform(), torch.zeros(4000, 12, dtype=torch.int64)
    objective = MaskedDiffusion(mask=TINY.mask, noise=TrainingNoise(is_bound=False, **settings))
    loss = objective.training_loss(model, batch_of(tokens), generator())
    assert loss.nats.item() / loss.num_tokens == pytest.approx(math.log(3), rel=0.02)


def test_realised_weights_divide_by_what_was_masked() -> None:
    lengths = [1 + i % 5 for i in range(50)]
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    found = TrainingNoise(realised=True).draw(valid, generator())
    for masked, weight, length in zip(found.masked_BL, found.weight_BL, lengths, strict=True):
        if masked.any():
            assert weight[masked].tolist() == pytest.approx([length / masked.sum().item()] * int(masked.sum()))


def test_at_least_one_valid_token_is_masked_if_asked_and_nothing_else_changes() -> None:
    valid = torch.arange(4) < torch.tensor([1 + i % 4 for i in range(4000)])[:, None]
    plain, ruled = (TrainingNoise(at_least_one=rule).draw(valid, generator()).masked_BL for rule in (False, True))
    assert not plain.any(1).all()
    assert ruled.any(1).all()
    assert not (ruled & ~valid).any()
    some = plain.any(1)
    assert torch.equal(plain[some], ruled[some])
    four = (~some) & valid.all(1)
    assert (ruled[four].sum(1) == 1).all()
    assert (ruled[four].float().mean(0) - 0.25).abs().max() < 0.1


def test_antithetic_times_come_in_pairs_and_independent_ones_do_not() -> None:
    pairs = training_times(10, generator(), "antithetic")
    torch.testing.assert_close(pairs[:5] + pairs[5:], torch.full((5,), 1.001))
    assert len(training_times(7, generator(), "antithetic")) == 7
    drawn = torch.stack([training_times(2, generator(seed), "iid") for seed in range(2000)])
    assert drawn.T.corrcoef()[0, 1].abs() < 0.07
    for times in (pairs, drawn):
        assert ((times >= 1e-3) & (times <= 1)).all()


def test_a_block_has_a_time_and_rules_of_its_own() -> None:
    valid = torch.ones(2000, 10, dtype=torch.bool)
    found = TrainingNoise(at_least_one=True, realised=True).draw(valid, generator(), block_length=4)
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        masked, weight = found.masked_BL[:, start:stop], found.weight_BL[:, start:stop]
        assert masked.any(1).all()
        expected = (stop - start) / masked.sum(1, keepdim=True)
        torch.testing.assert_close(weight[masked], expected.expand_as(masked)[masked])


@pytest.mark.parametrize("length", [3, 7])
def test_blocks_of_a_whole_sequence_are_masked_diffusion(length: int) -> None:
    model, tokens = tiny_transformer().eval(), torch.randint(3, (20, length), generator=generator())

    def losses(objective: Any) -> list[Tensor]:
        return [objective.training_loss(model, batch_of(tokens), generator(seed)).nats for seed in range(5)]

    whole = BlockDiffusion(mask=TINY.mask, block_length=length)
    for found, expected in zip(losses(whole), losses(MaskedDiffusion(mask=TINY.mask)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
