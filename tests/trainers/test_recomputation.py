"""What activation checkpointing computes again: counted in FLOPs, for a setting that does nothing is easily missed."""

from __future__ import annotations

from pathlib import Path

import loop_examples as example
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crossover.trainers.flops import training_flops_per_token
from crossover.trainers.step import train_step
from crossover.trainers.training_state import new_state
from crossover.trainers.trial_setup import open_setup


def step_of(corpus: Path, checkpointing: str, **settings: object) -> tuple[int, list[torch.Tensor]]:
    """FLOPs of a step, and the weights after it."""
    config = example.config(corpus, model__num_layers=2, execution__activation_checkpointing=checkpointing, **settings)
    state = new_state(setup := open_setup(config))
    with FlopCounterMode(display=False) as counter:
        train_step(setup, state)
    return counter.get_total_flops(), [parameter.detach() for parameter in state.model.parameters()]


def test_full_checkpointing_computes_each_block_once_more_and_selective_none_of_its_products(tiny_corpus: Path) -> None:
    none, selective, full = (step_of(tiny_corpus, mode)[0] for mode in ("none", "selective", "full"))
    setup = open_setup(example.config(tiny_corpus, model__num_layers=2))
    tokens = setup.config.schedule.batch_size * setup.config.data.sequence_length
    forward = training_flops_per_token(setup.shape, setup.objective, setup.config.data.sequence_length) * tokens / 3
    head = 2 * setup.shape.num_params_head * tokens
    assert selective == none
    assert full - none == pytest.approx(forward - head, rel=0.05)  # the kernel computes upper triangles too


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_recomputed_blocks_drop_the_same_places_and_train_the_same_weights(
    checkpointing: str, tiny_corpus: Path
) -> None:
    dropout = {"regularization__dropout": 0.3, "regularization__mlp_dropout": 0.3}
    _, expected = step_of(tiny_corpus, "none", **dropout)
    _, found = step_of(tiny_corpus, checkpointing, **dropout)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
