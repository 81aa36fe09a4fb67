"""A configuration: what is refused, with which words, and what makes its identity."""

from __future__ import annotations

from typing import Any

import pytest

from crossover.trainers.config import TrialConfig, config_from_dotted, config_hash, trial_identity
from crossover.trainers.errors import ConfigError

GOOD: dict[str, Any] = {
    "data.corpus": "python-stdlib",
    "data.unique_tokens": 1000,
    "model.size": "400k",
    "objective.name": "autoregressive",
    "schedule.epochs": 2,
}


def config(**changes: Any) -> TrialConfig:
    return config_from_dotted(GOOD | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimizer__learning_rat": 1e-3},
            "optimizer.learning_rat: there is no such name; did you mean learning_rate?",
        ),
        ({"optimiser": 1}, "did you mean optimizer?"),
        ({"data__zzz": 1}, "none of corpus, unique_tokens, sequence_length, seed"),
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


def test_identity_covers_the_mathematics_and_nothing_else() -> None:
    identity = trial_identity(config(), "hash")
    assert trial_identity(config(execution__threads=3, checkpoint__poll_seconds=1.0), "hash") == identity
    computed = {"compile": "on", "activation_checkpointing": "full", "micro_batch_size": 2, "replicas": 2}
    assert (
        trial_identity(config(**{f"execution__{name}": value for name, value in computed.items()}), "hash") == identity
    )
    assert trial_identity(config(data__corpus="/elsewhere"), "hash") == identity
    assert trial_identity(config(), "other text") != identity
    for change in ({"seed": 1}, {"data__seed": 1}, {"optimizer__weight_decay": 0.2}, {"evaluation__seed": 1}):
        assert trial_identity(config(**change), "hash") != identity


def test_repeats_share_their_configuration() -> None:
    assert config_hash(config(seed=3, data__seed=3), "hash") == config_hash(config(), "hash")
    assert config_hash(config(schedule__epochs=3), "hash") != config_hash(config(), "hash")
