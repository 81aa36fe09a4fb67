"""Everything in TrialConfig can be set, varied and named in a condition, or is refused with the way to do it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crossover.platform.study import StudyError, study_of
from crossover.platform.study.settings import LEAVES
from crossover.trainers.config import TrialConfig

BASE: dict[str, Any] = {
    "name": "reach",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8192},
    "fixed": {"model.num_layers": 2, "model.width": 64, "schedule.epochs": 10},
    "axes": {
        "objective.name": {"choice": ["autoregressive"], "role": "scientific"},
        "optimizer.beta1": {"uniform": [0.8, 0.95], "role": "nuisance"},
    },
    "search": {"trials": 2},
}
VALUES: dict[str, tuple[Any, Any]] = {
    "data.tier": ("low", "high"),
    "data.unique_tokens": (8192, 4096),
    "model.size": ("100k", "400k"),
    "model.num_layers": (2, 4),
    "model.width": (64, 128),
    "model.num_heads": (1, 2),
    "model.num_kv_heads": (1, 2),
    "model.mlp_width": (64, 128),
    "model.tie_embeddings": (False, True),
    "objective.name": ("autoregressive", "masked_diffusion"),
    "model.num_experts": (4, 8),
    "model.sparsity": (4.0, 8.0),
    "model.granularity": (2, 4),
    "model.experts_per_token": (1, 2),
    "model.first_dense_layers": (0, 1),
    "model.routing": ("token_choice", "expert_choice"),
    "model.router_scores": ("softmax", "sigmoid"),
    "model.normalize_weights": (True, False),
    "model.balancing": ("loss", "bias"),
    "model.dense_control": ("active", "total"),
    "objective.noise_schedule": ("linear", "cosine"),
    "objective.loss_weight": ("elbo", "uniform"),
    "objective.time_sampling": ("stratified", "iid"),
    "objective.mask_fraction": ("nominal", "realised"),
    "optimizer.final_weight_decay": (0.1, 1.6),
    "optimizer.weight_decay_schedule": ("linear", "cosine"),
    "regularization.input_noise_kind": ("mask", "random"),
    "regularization.input_noise_rate": ("fixed", "uniform"),
    "annealing.first_epoch": (2.0, 4.0),
    "annealing.ratio": (2.0, 3.0),
    "optimizer.name": ("adamw", "muon"),
    "schedule.name": ("cosine", "wsd"),
    "schedule.decay_fraction": (0.1, 0.2),
    "stopping.rule": ("overfit", "none"),
    "evaluation.tasks": ("a.jsonl", "b.jsonl"),
    "evaluation.decision_metric": ("val_loss", "task_gap"),
    "stopping.plateau_evaluations": (3, None),
}
"""Two sound values of each setting that has no obvious ones."""

_OF_MIXTURES = (
    "model.sparsity",
    "model.granularity",
    "model.first_dense_layers",
    "model.routing",
    "model.router_scores",
    "model.normalize_weights",
    "model.balancing",
    "model.balance_loss",
    "model.router_z_loss",
    "model.dense_control",
)
_OF_DIFFUSION = ("noise_schedule", "noise_power", "loss_weight", "time_sampling", "at_least_one_mask", "mask_fraction")
REFUSED = {
    "data.corpus": "make a study for each",
    "data.seed": "set search.repeats",
    "data.sequence_length": "make a study for each",
    "seed": "set search.repeats",
    **{path: "set it in fixed" for path in LEAVES if path.split(".")[0] in ("evaluation", "execution", "checkpoint")},
}
_EXPERTS = {"model.num_experts": 4, "model.experts_per_token": 2, "model.granularity": 1}
_ANNEALED = {"annealing.first_epoch": 2.0, "schedule.name": "constant"}
ALSO: dict[str, dict[str, Any]] = {
    **{path: _EXPERTS for path in LEAVES if (path.startswith("model.") and "expert" in path) or path in _OF_MIXTURES},
    **{path: _ANNEALED for path in LEAVES if path.startswith("annealing.")},
    "model.bias_rate": {**_EXPERTS, "model.balancing": "bias"},
    "objective.noise_power": {"objective.noise_schedule": "polynomial"},
    "optimizer.weight_decay_schedule": {"optimizer.final_weight_decay": 1.0},
    "regularization.input_noise_kind": {"regularization.input_noise": 0.1},
    "regularization.input_noise_rate": {"regularization.input_noise": 0.1},
    "regularization.masked_input_ratio": {"regularization.masked_input_loss": 0.4},
    "regularization.expert_dropout": _EXPERTS,
    "regularization.expert_output_mask": _EXPERTS,
    "schedule.decay_fraction": {"schedule.name": "wsd"},
    "schedule.final_fraction": {"schedule.name": "cosine"},
    "model.num_kv_heads": {"model.num_heads": 2},
    "evaluation.task_masks": {"evaluation.tasks": "a.jsonl"},
}
"""Settings without which another would have no effect or no shape."""


def values_of(path: str) -> tuple[Any, Any]:
    if path in VALUES:
        return VALUES[path]
    default = LEAVES[path].get_default()
    if path == "schedule.epochs":
        return 5, 10
    if isinstance(default, bool):
        return default, not default
    if isinstance(default, int):
        return max(default, 1), 2 * max(default, 1)
    assert isinstance(default, float), path
    return max(default / 2, 0.05), max(default / 4, 0.025)


VARIED = [path for path in LEAVES if path not in REFUSED]


def document(path: str) -> dict[str, Any]:
    """A sound study that does not say anything of this setting."""
    written = copy.deepcopy(BASE)
    written["fixed"] |= ALSO.get(path, {})
    written["fixed"].pop(path, None)
    if path == "objective.block_length":
        written["axes"]["objective.name"]["choice"] = ["block_diffusion"]
    if (
        path.endswith(("masks_per_window", "task_masks"))
        or path in [f"objective.{n}" for n in _OF_DIFFUSION]
        or path == "model.routing"
    ):
        written["axes"]["objective.name"]["choice"] = ["masked_diffusion"]
    if path == "model.sparsity":
        del written["fixed"]["model.num_experts"]
    if path == "model.size":
        del written["fixed"]["model.num_layers"], written["fixed"]["model.width"]
    return written


@pytest.mark.parametrize("path", VARIED)
def test_every_setting_can_be_an_axis_and_reaches_the_trial(path: str) -> None:
    written = document(path)
    role = "scientific" if path in ("objective.name", "data.tier", "data.unique_tokens") else "nuisance"
    first, second = values_of(path)
    written["axes"][path] = {"choice": [first, second], "role": role}
    study = study_of(written, "study reach")
    seen = set()
    for stratum in study.strata():
        for value in (first, second):
            settings = {path: value} if role == "nuisance" else {}
            config = study.trial_config(stratum, settings)
            section, _, name = path.partition(".")
            seen.add(getattr(getattr(config, section), name))
    assert seen == {first, second}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_no_axis_is_refused_with_what_to_do(path: str) -> None:
    written = document(path)
    written["axes"][path] = {"choice": [1, 2], "role": "nuisance"}
    with pytest.raises(StudyError, match=REFUSED[path]):
        study_of(written, "study reach")


@pytest.mark.parametrize("path", [path for path in VARIED if path != "optimizer.beta2"])
def test_every_axis_can_be_a_condition(path: str) -> None:
    written = document(path)
    role = "scientific" if path in ("objective.name", "data.tier", "data.unique_tokens") else "nuisance"
    first, second = values_of(path)
    written["axes"][path] = {"choice": [first, second], "role": role}
    written["axes"]["optimizer.beta2"] = {"uniform": [0.9, 0.99], "role": "nuisance", "when": {path: first}}
    study = study_of(written, "study reach")
    assert any("optimizer.beta2" in study.space.nuisance(stratum) for stratum in study.strata())


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in LEAVES
        if not path.startswith(("data.", "stopping.")) and path not in ("objective.name", "optimizer.gradient_clip")
    ],
)
def test_every_fixed_setting_can_be_a_condition(path: str) -> None:
    written = document(path)
    written["fixed"][path] = value = _sound(path)
    written["axes"].pop("optimizer.beta1")
    written["axes"]["optimizer.gradient_clip"] = {"uniform": [0.5, 2.0], "role": "nuisance", "when": {path: value}}
    study = study_of(written, "study reach")
    assert all("optimizer.gradient_clip" in study.space.nuisance(stratum) for stratum in study.strata())


def _sound(path: str) -> Any:
    if path in VALUES or path == "schedule.epochs":
        return values_of(path)[0]
    default = LEAVES[path].get_default()
    return default if default is not None else 1


def test_settings_of_a_trial_are_all_known_here() -> None:
    assert {path.partition(".")[0] for path in LEAVES} == set(TrialConfig.model_fields)
