"""What makes the identity of a run, and that it stays what it was in records of earlier versions."""

from __future__ import annotations

from config_examples import config

from crossover.trainers.identity import config_hash, trial_identity


def test_settings_that_came_later_leave_earlier_records_their_identity() -> None:
    """If this fails for a new setting: enter it in `identity._CAME_LATER`, with what every run before it had."""
    assert trial_identity(config(), "hash") == "f2502fd3dd6aadd6"
    assert config_hash(config(), "hash") == "b95c1483e0051b67"


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
