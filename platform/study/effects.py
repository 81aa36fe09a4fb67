"""Settings without effect: what a study sets and every run, or a stratum's runs, would ignore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossover.platform.study.model import Study
from crossover.search_spaces import Scalar, Stratum
from crossover.trainers.config import TrialConfig

__all__ = ["ignored_settings"]

_OVERFIT_FIELDS = ("patience", "min_rise", "z", "plateau_evaluations")


@dataclass(frozen=True)
class _Effect:
    """A setting that only some runs read."""

    path: str
    rule: str
    reads: Callable[[TrialConfig], bool]


def _scores_a_bound(config: TrialConfig) -> bool:
    from crossover.trainers.objectives import get

    return get(config.objective.name).is_bound


_EFFECTS = (
    _Effect("schedule.decay_fraction", "is for schedule.name: wsd", lambda c: c.schedule.name == "wsd"),
    _Effect("schedule.final_fraction", "is for schedule.name: cosine or wsd", lambda c: c.schedule.name != "constant"),
    _Effect("evaluation.masks_per_window", "is for objectives scored by a bound", _scores_a_bound),
    _Effect("evaluation.test_masks_per_window", "is for objectives scored by a bound", _scores_a_bound),
    *(
        _Effect(f"stopping.{name}", "is for stopping.rule: overfit", lambda c: c.stopping.rule == "overfit")
        for name in _OVERFIT_FIELDS
    ),
)


def ignored_settings(study: Study, configs: Sequence[tuple[Stratum, Mapping[str, Scalar], TrialConfig]]) -> list[str]:
    """Every setting that would be ignored.

    Args:
        study: Whose settings.
        configs: Configurations of every stratum, with their nuisance settings.
    """
    return [mistake for effect in _EFFECTS for mistake in _ignored(effect, study, configs)]


def _ignored(
    effect: _Effect, study: Study, configs: Sequence[tuple[Stratum, Mapping[str, Scalar], TrialConfig]]
) -> Iterator[str]:
    path = effect.path
    if path in study.axes:
        varied = [(stratum, config) for stratum, s, config in configs if path in s or path in stratum.settings]
        lost = next((stratum for stratum, config in varied if not effect.reads(config)), None)
        if lost is not None:
            yield f"axes.{path} {effect.rule}, and in stratum {lost.label} it has no effect: give it a `when`"
    if _is_set(study, path) and not any(effect.reads(config) for _, _, config in configs):
        where = path if path.startswith("stopping.") else f"fixed.{path}"
        yield f"{where} {effect.rule}, and this study has none, so it has no effect: remove it"


def _is_set(study: Study, path: str) -> bool:
    group, _, name = path.partition(".")
    if group == "stopping":
        return name in study.stopping.model_fields_set and getattr(study.stopping, name) is not None
    return path in study.fixed
