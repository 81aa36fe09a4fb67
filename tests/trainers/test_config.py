"""A configuration: what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest
from config_examples import config

from crossover.trainers.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimizer__learning_rat": 1e-3},
            "optimizer.learning_rat: there is no such name; did you mean learning_rate?",
        ),
        ({"optimiser": 1}, "did you mean optimizer?"),
        ({"data__zzz": 1}, "none of corpus, tier, unique_tokens, sequence_length, seed"),
        ({"regularization__dropout": 1.0}, r"regularization.dropout: .*less than 1 \(got 1.0\)"),
        ({"schedule__epochs": float("nan")}, "schedule.epochs: .*finite"),
        ({"evaluation__ratio": 1 + 1e-9}, "evaluation.ratio: .*1.001"),
        ({"evaluation__first_epoch": 1e308}, "evaluation.first_epoch: .*1000000"),
        ({"evaluation__first_epoch": 1e-320}, "evaluation.first_epoch: .*0.000001"),
        ({"model__width": 64}, "both set"),
        ({"model__size": None}, "no shape"),
        ({"execution__micro_batch_size": 0}, r"execution.micro_batch_size: .*greater than 0 \(got 0\)"),
        ({"execution__replicas": -1}, r"execution.replicas: .*greater than 0 \(got -1\)"),
        ({"execution__compile": "maybe"}, "execution.compile: .*'auto', 'on' or 'off'"),
        ({"execution__activation_checkpointing": "some"}, "execution.activation_checkpointing: .*'none', 'selective'"),
        ({"objective__name": "masked_diffusion", "regularization__input_noise": 0.1}, "when: {objective.name: autoreg"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**changes)
