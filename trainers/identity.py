"""What of a configuration makes a run's identity, and how that outlives new settings.

Identity covers what changes the mathematics and nothing else, so a trial goes on at another world size or on another
machine. Corpus and tasks enter by the hash of their content, never by their paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossover.trainers.config import TrialConfig
from crossover.trainers.tasks.questions import task_hash

__all__ = ["config_hash", "trial_identity"]

_NOT_MATHEMATICS = ("checkpoint", "execution")

# Settings that came after the first records, each with what every run before it had: at that value they stay out of the
# identity, so that records keep theirs. A value here never changes, even if the default of its setting does.
_CAME_LATER: dict[str, Any] = {
    "data.tier": None,
    "evaluation.tasks": None,
    "evaluation.task_masks": 8,
    "evaluation.decision_metric": "val_loss",
    "evaluation.memorization_pieces": 0,
    "model.num_experts": None,
    "model.sparsity": None,
    "model.granularity": 1,
    "model.experts_per_token": None,
    "model.shared_experts": 0,
    "model.first_dense_layers": 0,
    "model.routing": "token_choice",
    "model.router_scores": "softmax",
    "model.normalize_weights": None,
    "model.balancing": None,
    "model.balance_loss": 0.01,
    "model.bias_rate": 1e-3,
    "model.router_z_loss": 1e-3,
    "model.dense_control": "none",
    "regularization.expert_dropout": 0.0,
    "regularization.mlp_output_mask": 0.0,
    "regularization.expert_output_mask": 0.0,
    "regularization.stochastic_depth": 0.0,
    "regularization.input_noise_kind": "mask",
    "regularization.input_noise_rate": "fixed",
    "regularization.masked_input_loss": 0.0,
    "regularization.masked_input_ratio": 0.5,
    "optimizer.final_weight_decay": None,
    "optimizer.weight_decay_schedule": "linear",
    "objective.noise_schedule": "linear",
    "objective.noise_power": 2.0,
    "objective.loss_weight": "elbo",
    "objective.time_sampling": "stratified",
    "objective.at_least_one_mask": False,
    "objective.mask_fraction": "nominal",
    "objective.block_length": 16,
    "annealing.first_epoch": None,
    "annealing.ratio": 2.0,
    "annealing.fraction": 0.1,
    "annealing.final_fraction": 0.0,
    "annealing.decides": False,
}


def trial_identity(config: TrialConfig, manifest_hash: str) -> str:
    """Identity of a trial: the first 16 hexadecimal digits of the sha256 of what changes its mathematics."""
    return _digest(_mathematics(config, manifest_hash))[:16]


def config_hash(config: TrialConfig, manifest_hash: str) -> str:
    """Like `trial_identity`, without training and data seed: repeats of one configuration share it."""
    content = _mathematics(config, manifest_hash)
    del content["seed"], content["data"]["seed"]
    return _digest(content)[:16]


def _mathematics(config: TrialConfig, manifest_hash: str) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    for name in _NOT_MATHEMATICS:
        del content[name]
    content["data"]["corpus"] = manifest_hash
    hashes = [task_hash(Path(path)) for path in config.evaluation.task_paths]
    content["evaluation"]["tasks"] = hashes or None
    for path, before in _CAME_LATER.items():
        section, _, name = path.partition(".")
        if content[section][name] == before:
            del content[section][name]
    return {name: values for name, values in content.items() if values != {}}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
