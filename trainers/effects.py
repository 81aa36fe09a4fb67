"""Settings that only some runs read: what is set and would be ignored is an error, never silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError

__all__ = ["EFFECTS", "Effect", "refuse_ignored_settings"]

_RULE_FIELDS = ("patience", "min_rise", "z")


@dataclass(frozen=True)
class Effect:
    """A setting that only some runs read.

    Args:
        path: of the setting, dotted.
        rule: what it is for, in words that follow the path.
        reads: whether a run reads it.
    """

    path: str
    rule: str
    reads: Callable[[TrialConfig], bool]


def _scores_a_bound(config: TrialConfig) -> bool:
    from crossover.trainers.objectives import get  # loads torch

    return get(config.objective.name).is_bound


def _objective_reads(name: str) -> Callable[[TrialConfig], bool]:
    def reads(config: TrialConfig) -> bool:
        from crossover.trainers.objectives import get  # loads torch

        return name in get(config.objective.name).settings

    return reads


def _trains_experts(config: TrialConfig) -> bool:
    return config.model.is_mixture and config.model.dense_control == "none"


_OF_DIFFUSION = ("noise_schedule", "loss_weight", "time_sampling", "at_least_one_mask", "mask_fraction")


def _asks_a_bound(config: TrialConfig) -> bool:
    return bool(config.evaluation.task_paths) and _scores_a_bound(config)


EFFECTS = (
    *(Effect(f"objective.{n}", "is for diffusion objectives", _objective_reads(n)) for n in _OF_DIFFUSION),
    Effect("objective.block_length", "is for objective.name: block_diffusion", _objective_reads("block_length")),
    Effect(
        "objective.noise_power",
        "is for objective.noise_schedule: polynomial",
        lambda c: c.objective.noise_schedule == "polynomial",
    ),
    *(
        Effect(f"regularization.{n}", "is for regularization.input_noise", lambda c: c.regularization.input_noise > 0)
        for n in ("input_noise_kind", "input_noise_rate")
    ),
    Effect(
        "regularization.masked_input_ratio",
        "is for regularization.masked_input_loss",
        lambda c: c.regularization.masked_input_loss > 0,
    ),
    Effect(
        "optimizer.weight_decay_schedule",
        "is for optimizer.final_weight_decay",
        lambda c: c.optimizer.final_weight_decay is not None,
    ),
    *(
        Effect(f"annealing.{n}", "is for annealing.first_epoch", lambda c: c.annealing.first_epoch is not None)
        for n in ("ratio", "fraction", "final_fraction", "decides")
    ),
    Effect(
        "model.bias_rate", "is for model.balancing: bias", lambda c: _trains_experts(c) and c.model.balancing == "bias"
    ),
    Effect(
        "model.balance_loss",
        "is for mixtures that are balanced by a loss",
        lambda c: _trains_experts(c) and c.model.balancing in (None, "loss") and c.model.routing == "token_choice",
    ),
    Effect("schedule.decay_fraction", "is for schedule.name: wsd", lambda c: c.schedule.name == "wsd"),
    Effect("schedule.final_fraction", "is for schedule.name: cosine or wsd", lambda c: c.schedule.name != "constant"),
    Effect("evaluation.masks_per_window", "is for objectives scored by a bound", _scores_a_bound),
    Effect("evaluation.test_masks_per_window", "is for objectives scored by a bound", _scores_a_bound),
    Effect("evaluation.task_masks", "is for evaluation.tasks, and objectives scored by a bound", _asks_a_bound),
    *(
        Effect(f"stopping.{name}", "is for stopping.rule: overfit or task_gap", lambda c: c.stopping.rule != "none")
        for name in _RULE_FIELDS
    ),
    Effect("stopping.plateau_evaluations", "is for stopping.rule: overfit", lambda c: c.stopping.rule == "overfit"),
)


def refuse_ignored_settings(settings: Mapping[str, Any], config: TrialConfig) -> None:
    """Refuses what one run would ignore, but for defaults that are written out: they cannot mislead.

    Args:
        settings: what was set, by dotted path.
        config: what came of it.

    Raises:
        ConfigError: a setting has no effect; the message names it, its value and what it is for.
    """
    for effect in EFFECTS:
        group, _, name = effect.path.partition(".")
        section = getattr(config, group)
        value = getattr(section, name)
        is_default = value == type(section).model_fields[name].default
        if effect.path in settings and not is_default and not effect.reads(config):
            raise ConfigError(f"{effect.path} = {value} {effect.rule}, and this run would ignore it: remove it")
