"""What a study says of rungs: how far its trials go, and when they are evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossover.platform.search.rungs import Horizon
from crossover.search_spaces import Scalar, Stratum
from crossover.trainers.config import EvaluationConfig

if TYPE_CHECKING:
    from crossover.platform.study.model import Study  # whose package checks studies, by what is here

__all__ = ["horizon_of"]

_EVALUATION = EvaluationConfig()


def horizon_of(study: Study, stratum: Stratum) -> Horizon:
    """How far the trials of a stratum can go, and when they are evaluated."""
    settings = {**study.base, **stratum.settings}
    epochs = [settings["schedule.epochs"]] if "schedule.epochs" in settings else []
    if "schedule.epochs" in study.space.nuisance(stratum):
        epochs = [*epochs, *study.axes["schedule.epochs"].domain.corners]
    return Horizon(
        unique_tokens=round(_number(settings["data.unique_tokens"])),
        max_epochs=max(map(_number, epochs)),
        first_evaluation=_number(settings.get("evaluation.first_epoch", _EVALUATION.first_epoch)),
        evaluation_ratio=_number(settings.get("evaluation.ratio", _EVALUATION.ratio)),
    )


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float), "checked with the study"
    return float(value)
