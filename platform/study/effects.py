"""Settings without effect: what a study sets and every run, or a stratum's runs, would ignore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from crossover.platform.study.model import Study
from crossover.search_spaces import Scalar, Stratum
from crossover.trainers.config import TrialConfig
from crossover.trainers.effects import EFFECTS, Effect

__all__ = ["ignored_settings"]


def ignored_settings(study: Study, configs: Sequence[tuple[Stratum, Mapping[str, Scalar], TrialConfig]]) -> list[str]:
    """Every setting that would be ignored.

    Args:
        study: Whose settings.
        configs: Configurations of every stratum, with their nuisance settings.
    """
    return [mistake for effect in EFFECTS for mistake in _ignored(effect, study, configs)]


def _ignored(
    effect: Effect, study: Study, configs: Sequence[tuple[Stratum, Mapping[str, Scalar], TrialConfig]]
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
