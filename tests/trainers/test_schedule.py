from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossover.trainers.config import EvaluationConfig, OptimizerConfig, ScheduleConfig
from crossover.trainers.schedule import evaluation_steps, learning_rate, num_training_steps, weight_decay

PEAK = 3e-3


def rates(num_steps: int, **settings: object) -> list[float]:
    config = ScheduleConfig.model_validate({"epochs": 1, "warmup_steps": 0} | settings)
    return [learning_rate(step, num_steps, config, PEAK) for step in range(num_steps)]


def test_warmup_is_linear_above_zero_and_ends_at_the_peak() -> None:
    found = rates(10, warmup_steps=4)
    assert found[:4] == pytest.approx([PEAK / 4, PEAK / 2, 3 * PEAK / 4, PEAK])
    assert found[4:] == [PEAK] * 6


def test_run_shorter_than_its_warmup_only_warms_up() -> None:
    for name in ("constant", "cosine", "wsd"):
        assert rates(5, name=name, warmup_steps=50) == pytest.approx([PEAK * (i + 1) / 50 for i in range(5)])


def test_cosine_is_that_of_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=PEAK)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.1 * PEAK)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(40, name="cosine", final_fraction=0.1) == pytest.approx(expected, rel=1e-6)


def test_wsd_is_constant_and_then_falls_linearly_over_the_decay_fraction() -> None:
    found = rates(100, name="wsd", decay_fraction=0.2, final_fraction=0.1)
    assert found[:81] == [PEAK] * 81
    falls = [a - b for a, b in pairwise(found[80:])]
    assert falls == pytest.approx([0.9 * PEAK / 20] * 19)
    assert found[-1] == pytest.approx(PEAK * (0.1 + 0.9 / 20))


def test_wsd_whose_decay_would_begin_in_the_warmup_decays_after_it() -> None:
    found = rates(10, name="wsd", warmup_steps=5, decay_fraction=1.0, final_fraction=0.0)
    assert found[4:] == pytest.approx([PEAK, PEAK, 0.8 * PEAK, 0.6 * PEAK, 0.4 * PEAK, 0.2 * PEAK])


@given(
    name=st.sampled_from(["constant", "cosine", "wsd"]),
    num_steps=st.integers(1, 300),
    warmup_steps=st.integers(0, 100),
    decay_fraction=st.floats(0.001, 1),
    final_fraction=st.floats(0, 1),
)
def test_every_rate_is_positive_at_most_the_peak_and_never_rises_after_the_warmup(
    name: str, num_steps: int, warmup_steps: int, decay_fraction: float, final_fraction: float
) -> None:
    found = rates(
        num_steps,
        name=name,
        warmup_steps=warmup_steps,
        decay_fraction=decay_fraction,
        final_fraction=final_fraction,
    )
    assert all(0 < rate <= PEAK * (1 + 1e-12) for rate in found)
    after = found[warmup_steps:]
    assert after == sorted(after, reverse=True)


def test_number_of_steps_follows_epochs_and_batch_size_and_is_at_least_one() -> None:
    assert num_training_steps(ScheduleConfig(epochs=9.6, batch_size=16), num_sequences=192) == 115  # 115.2
    assert num_training_steps(ScheduleConfig(epochs=0.001, batch_size=16), num_sequences=192) == 1


def test_evaluations_are_geometric_in_epochs_and_end_with_the_run() -> None:
    found = evaluation_steps(EvaluationConfig(first_epoch=1, ratio=2), steps_per_epoch=12, num_steps=100)
    assert found == (12, 24, 48, 96, 100)


def test_evaluations_of_a_shorter_run_are_those_of_a_longer_one_and_its_end() -> None:
    config = EvaluationConfig(first_epoch=0.5, ratio=1.25)
    long, short = evaluation_steps(config, 7.5, 4000), evaluation_steps(config, 7.5, 500)
    assert short[:-1] == tuple(step for step in long if step < 500)
    assert short[-1] == 500


def test_run_that_ends_before_the_first_evaluation_is_evaluated_at_its_end() -> None:
    assert evaluation_steps(EvaluationConfig(first_epoch=10), steps_per_epoch=12, num_steps=20) == (20,)


@given(
    first_epoch=st.floats(1e-3, 50),
    ratio=st.floats(1.001, 4),
    steps_per_epoch=st.floats(0.01, 500),
    num_steps=st.integers(1, 3000),
)
def test_evaluation_steps_increase_and_each_is_the_nearest_to_a_point_of_the_grid(
    first_epoch: float, ratio: float, steps_per_epoch: float, num_steps: int
) -> None:
    config = EvaluationConfig(first_epoch=first_epoch, ratio=ratio)
    found = evaluation_steps(config, steps_per_epoch, num_steps)
    assert list(found) == sorted(set(found))
    assert found[0] >= 1
    assert found[-1] == num_steps
    for step in found[:-1]:
        exponent = math.log(step / (first_epoch * steps_per_epoch), ratio)
        near = [first_epoch * ratio**i * steps_per_epoch for i in (math.floor(exponent), math.ceil(exponent))]
        assert min(abs(step - point) for point in near) <= 0.5 + 1e-6


@pytest.mark.parametrize(("name", "middle"), [("linear", 1.65), ("cosine", 1.65)])
def test_weight_decay_goes_from_its_first_to_its_last_value(name: str, middle: float) -> None:
    config = OptimizerConfig(weight_decay=0.1, final_weight_decay=3.2, weight_decay_schedule=name)
    found = [weight_decay(step, 101, config) for step in range(101)]
    assert found[0] == 0.1
    assert found[-1] == pytest.approx(3.2)
    assert found[50] == pytest.approx(middle)
    assert found == sorted(found)
    assert (found[10] - 0.1 < 0.1) == (name == "cosine")


def test_weight_decay_stays_by_default() -> None:
    assert {weight_decay(step, 7, OptimizerConfig(weight_decay=0.8)) for step in range(7)} == {0.8}
    assert weight_decay(0, 1, OptimizerConfig(weight_decay=0.8, final_weight_decay=0.2)) == 0.8
