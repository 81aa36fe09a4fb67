"""What the fields of a study say together: does every path exist, can every trial be built, is anything ignored.

Real `TrialConfig`s are built over all strata: every value and both ends of every axis (10,000 at most), and pairs of
them while they are few, so a study that starts does not meet an impossible configuration after hours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice

from crossover.platform.study.effects import ignored_settings
from crossover.platform.study.model import Study, WorkerRange
from crossover.platform.study.scheduler_check import budget_mistakes, scheduler_mistakes
from crossover.platform.study.search_check import drawing_mistakes, sampler_mistakes
from crossover.platform.study.settings import LEAVES, near_setting, value_mistake
from crossover.search_spaces import Axis, Scalar, Space, SpaceError, Stratum, corners, pair_corners
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.shares import check_shares

__all__ = ["structure_mistakes", "study_mistakes"]

_MAX_SINGLE = 10_000
_MAX_PAIRS = 5_000
_REQUIRED = tuple(path for path, field in LEAVES.items() if field.is_required())
_OWN_SECTIONS = ("data", "stopping")
_NOT_AXES = {
    "seed": "seeds are no axis: set search.repeats",
    "data.seed": "seeds are no axis: set search.repeats",
    "data.corpus": "a study has one corpus: make a study for each",
    "data.sequence_length": "trials of one study are scored on the same windows: make a study for each length",
}
_LABEL = re.compile(r"[A-Za-z0-9._+-]{1,40}")
_SCIENTIFIC = ("objective.name", "data.unique_tokens", "data.tier")


def structure_mistakes(study: Study) -> list[str]:
    """What is wrong with paths, values and conditions: without these a study has strata and trials."""
    mistakes = [*_fixed_mistakes(study), *_axes_mistakes(study)]
    if mistakes:
        return mistakes
    try:
        study.space  # noqa: B018 - building it checks it
    except SpaceError as error:
        return list(error.mistakes)
    return []


def study_mistakes(study: Study) -> list[str]:
    """Every mistake of a study whose fields are sound by themselves; empty for a study that can run."""
    mistakes = structure_mistakes(study)
    if mistakes:
        return mistakes
    space = study.space
    mistakes = [*_never_active(study, space), *_search_mistakes(study, space), *sampler_mistakes(study)]
    mistakes = mistakes or [*_combination_mistakes(study, space), *budget_mistakes(study)]
    return mistakes or [*drawing_mistakes(study), *scheduler_mistakes(study)]


def _fixed_mistakes(study: Study) -> Iterator[str]:
    for path, value in study.fixed.items():
        where = f"fixed.{path[:200]}"
        section = path.partition(".")[0]
        if path not in LEAVES:
            yield f"{where}: no such setting{near_setting(path)}{_parts_of(path)}"
        elif section in _OWN_SECTIONS:
            yield f"{where}: {section} has its own section: write {section}: {{{path.partition('.')[2]}: ...}} instead"
        elif problem := value_mistake(path, value):
            yield f"{where}: {problem}"


def _axes_mistakes(study: Study) -> Iterator[str]:
    for path, axis in study.axes.items():
        where = f"axes.{path[:200]}"
        if path in LEAVES:
            yield from (f"{where}: {problem}" for problem in _axis_mistakes(path, axis))
        elif not path.isidentifier() or path in TrialConfig.model_fields:
            yield f"{where}: no such setting{near_setting(path)}{_parts_of(path)}"
        elif axis.role == "nuisance" or any(path == known.rpartition(".")[2] for known in LEAVES):
            yield (
                f"{where}: no such setting{near_setting(path)} (a name without a dot is a label: it must be "
                "scientific, and not the last part of a setting's path)"
            )
        elif not all(isinstance(value, str) and _LABEL.fullmatch(value) for value in axis.domain.values or ()):
            yield f"{where}: the values of a label are words of letters, digits and . _ + -, 40 characters at most"
        elif all(path not in other.when for other in study.axes.values()):
            yield f"{where}: a label sets nothing, and no axis names it in `when`, so it has no effect: remove it"


def _parts_of(path: str) -> str:
    inside = [known for known in LEAVES if known.startswith(f"{path}.")]
    return f"; it is a group: set one of {', '.join(inside)}" if inside else ""


def _axis_mistakes(path: str, axis: Axis) -> Iterator[str]:
    group = path.partition(".")[0]
    if path in _NOT_AXES:
        yield _NOT_AXES[path]
    elif group == "evaluation":
        yield "trials of one study are scored alike: set it in fixed"
    elif group in ("execution", "checkpoint"):
        yield "it changes no result, so its trials would be the same: set it in fixed"
    elif path in _SCIENTIFIC and axis.role != "scientific":
        yield "what it sets is what the study asks about: give it the role scientific"
    for value in axis.domain.corners:
        if problem := value_mistake(path, value):
            yield f"{axis.kind}: {problem}"


def _never_active(study: Study, space: Space) -> Iterator[str]:
    strata = space.strata()
    for path, axis in study.axes.items():
        if axis.role == "scientific":
            applies = [path in stratum.settings for stratum in strata]
            always = all(applies)
        else:
            applies = [path in space.nuisance(stratum) for stratum in strata]
            always = all(applies) and all(_decided(study, name) for name in axis.when)
        if not any(applies):
            yield f"axes.{path}: its conditions hold in no stratum, so it has no effect: change `when`, or remove it"
        elif always and (path in study.fixed or _is_set_in_stopping(study, path)):
            where = f"fixed.{path}" if path in study.fixed else path
            yield f"{where}: axes.{path} applies everywhere, so this has no effect: remove one, or give the axis `when`"


def _is_set_in_stopping(study: Study, path: str) -> bool:
    group, _, name = path.partition(".")
    return group == "stopping" and name in study.stopping.model_fields_set


def _decided(study: Study, name: str) -> bool:
    return name not in study.axes or study.axes[name].role == "scientific"


def _search_mistakes(study: Study, space: Space) -> Iterator[str]:
    sampled = [stratum for stratum in space.strata() if space.is_sampled(stratum)]
    if not sampled:
        for name in ("trials", "sampler", "warm_start"):
            if name in study.search.model_fields_set and getattr(study.search, name) is not None:
                yield f"search.{name}: no stratum has an axis to sample, so it has no effect: remove it"
        return
    if study.search.trials is None and study.search.sampler != "grid":
        yield (
            f"search.trials: required and not set: how many configurations to draw in stratum {sampled[0].label}, "
            "whose nuisance axes are sampled"
        )
        return
    for stratum in sampled:
        points = space.points(stratum)
        if points is not None and (study.search.trials or 0) > len(points):
            yield (
                f"search.trials = {study.search.trials}, but stratum {stratum.label} has {len(points)} configurations "
                "only: lower it, or make its axes grids"
            )


def _combination_mistakes(study: Study, space: Space) -> list[str]:
    strata = space.strata()
    missing = [path for path in _REQUIRED if path not in study.base and path not in study.axes]
    if not any(path.startswith("model.") for path in [*study.base, *study.axes]):
        missing.append("model.size")
    if missing:
        return [
            f"fixed.{path}: required and not set ({LEAVES[path].description} An axis may set it)" for path in missing
        ]
    where: dict[str, dict[str, None]] = {}
    configs: list[tuple[Stratum, Mapping[str, Scalar], TrialConfig]] = []
    for stratum, settings in _settings_to_try(space):
        problem, config = _try(study, stratum, settings)
        if problem:
            where.setdefault(problem, {})[stratum.label] = None
        if config:
            configs.append((stratum, settings, config))
    found = [f"{problem}{_strata_text(list(labels), len(strata))}" for problem, labels in where.items()]
    return found or [*_worker_mistakes(study, [config for _, _, config in configs]), *ignored_settings(study, configs)]


def _worker_mistakes(study: Study, configs: Sequence[TrialConfig]) -> Iterator[str]:
    """Fewest workers, or the only number of them, that cannot share a batch or hold whole replicas."""
    if (given := study.resources.given_workers) is None:
        return
    workers = given.min
    for size in sorted({config.schedule.batch_size for config in configs}):
        if size % workers:
            yield (
                f"resources.workers: {workers} workers cannot share schedule.batch_size = {size} evenly: set one of "
                "them so that the batch is a multiple of the workers"
            )
    for replicas in sorted({config.execution.replicas for config in configs}):
        if workers % replicas:
            yield (
                f"fixed.execution.replicas = {replicas}, but {workers} workers cannot hold {replicas} whole copies of "
                "the model: set one of them so that the workers are a multiple of the replicas"
            )
    yield from _micro_batch_mistakes(given, configs)


def _micro_batch_mistakes(workers: WorkerRange, configs: Sequence[TrialConfig]) -> Iterator[str]:
    """Of the numbers of workers that share a batch, those whose shares are no whole number of micro-batches."""
    shared = {(config.schedule.batch_size, config.execution): config for config in configs}
    for (size, execution), config in shared.items():
        if execution.micro_batch_size is None:
            continue
        replicas = execution.replicas
        counts = range(workers.min, min(workers.max, size) + 1)
        for count in (count for count in counts if size % count == 0 and count % replicas == 0):
            try:
                check_shares(config, count, num_sequences=sys.maxsize, num_windows=sys.maxsize)
            except ConfigError as error:
                yield f"resources.workers: with {count}, {error}"
                break


def _settings_to_try(space: Space) -> Iterator[tuple[Stratum, Mapping[str, Scalar]]]:
    single = ((stratum, settings) for stratum in space.strata() for settings in corners(space, stratum))
    pairs = ((stratum, settings) for stratum in space.strata() for settings in pair_corners(space, stratum))
    return chain(islice(single, _MAX_SINGLE), islice(pairs, _MAX_PAIRS))


def _strata_text(labels: list[str], num_strata: int) -> str:
    if len(labels) == num_strata:
        return ""
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f" (in stratum {labels[0]}{more})"


def _try(study: Study, stratum: Stratum, settings: Mapping[str, Scalar]) -> tuple[str | None, TrialConfig | None]:
    from crossover.trainers.data.corpus import vocabulary_of
    from crossover.trainers.model.shapes import shape_of
    from crossover.trainers.objectives import build

    try:
        config = study.trial_config(stratum, settings, 0)
        vocabulary = vocabulary_of(config.data.corpus)
        build(config, vocabulary)
        shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    except ConfigError as error:
        return str(error), None
    return None, config
