"""`Study`: one document that holds everything a run needs to be repeated.

Each field is sound by itself here; what fields say together is `study_check`'s, and reading a file is `study`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from crossover.platform.study.constraints import Constraints, Cost, cost_of
from crossover.platform.study.frozen import differences, frozen_document
from crossover.platform.study.resources import ResourcesConfig, WorkerRange
from crossover.platform.study.units import BYTES_PATTERN, COUNT_PATTERN, parse_bytes, parse_count
from crossover.search_spaces import Axis, Scalar, Space, Stratum
from crossover.trainers.config import DataConfig, StoppingConfig, TrialConfig, config_from_dotted
from crossover.trainers.places import storage_mistake

__all__ = [
    "BudgetConfig",
    "CheckpointsConfig",
    "ResourcesConfig",
    "RungsConfig",
    "SearchConfig",
    "Study",
    "StudyData",
    "TrackingConfig",
    "WorkerRange",
]


def _plain(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        raise ValueError("a fixed setting is one string, number, true, false or null; several values make an axis")
    return value


def _folder(value: str) -> str:
    if (mistake := storage_mistake(value)) is not None:
        raise ValueError(mistake)
    if not value.strip() or "\0" in value:
        raise ValueError(f"{value!r} is no folder: name one, such as ./runs")
    return value


_CountText = Annotated[str, Field(pattern=COUNT_PATTERN)]
_Count = Annotated[
    int,
    Field(gt=0, lt=2**63),
    BeforeValidator(parse_count, json_schema_input_type=Annotated[int, Field(gt=0)] | _CountText),
]
_Flops = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(parse_count, json_schema_input_type=Annotated[float, Field(gt=0)] | _CountText),
]
_Bytes = Annotated[
    int,
    Field(gt=0, lt=2**63),
    BeforeValidator(
        parse_bytes,
        json_schema_input_type=Annotated[int, Field(gt=0)] | Annotated[str, Field(pattern=BYTES_PATTERN)],
    ),
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StudyData(DataConfig):
    """The text that is trained on."""

    unique_tokens: _Count = Field(
        description="Unique tokens U of the training subset: 24_576, 24k, 1.5M; where it is an axis, its default.",
    )


class RungsConfig(_Section):
    """Where trials are compared: a geometric grid of epochs, each rung at the evaluation nearest to it."""

    first_epoch: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="Epochs of the first rung; null: counted down from the last epoch, three rungs at most.",
    )
    eta: int = Field(
        default=3, ge=2, le=1_000, description="One in so many goes on; also the ratio of the epochs of two rungs."
    )


class SearchConfig(_Section):
    """How many configurations and seeds, and who proposes them."""

    sampler: Literal["tpe", "gp", "nsga2", "random", "grid", "coordinate_descent"] = Field(
        default="tpe",
        description="Who draws nuisance settings: tpe and gp learn from finished trials, nsga2 weighs the loss against "
        "FLOPs, random does not learn, grid visits every value, coordinate_descent moves one axis at a time.",
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Configurations drawn in every stratum with sampled nuisance axes; others need none, nor does "
        "sampler: grid. With coordinate_descent at most so many.",
    )
    constraints: Constraints = Field(
        default=Constraints(), description="Bounds on what a configuration may cost; others are drawn again."
    )
    warm_start: str | None = Field(
        default=None, description="Folder of an earlier study of the same axes, whose trials the sampler learns from."
    )
    start: dict[str, Annotated[Any, AfterValidator(_plain)]] = Field(
        default_factory=dict,
        description="coordinate_descent: where it begins, path -> value; what is not named begins in the middle.",
    )
    factor: float = Field(
        default=2.0, ge=1.01, le=1e6, description="coordinate_descent: ratio of one step of learning rate, epochs, ..."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the suggestions.")
    repeats: int = Field(default=1, ge=1, le=1_000, description="Seeds of every configuration.")
    final_repeats: int | None = Field(
        default=None,
        ge=1,
        le=1_000,
        description="Seeds on which the best configuration of every stratum is trained in the end; null: repeats.",
    )
    vary_data: bool = Field(
        default=True,
        description="Repeats differ in data.seed too, and so in their text; false: in the training seed alone, as the "
        "members of an ensemble do.",
    )
    scheduler: Literal["cohort_halving", "patient_halving", "hyperband", "median", "asha", "none"] = Field(
        default="cohort_halving",
        description="Who ends trials against others of their stratum: cohort_halving keeps the best 1/eta at each "
        "rung, patient_halving then also those whose curves may still beat them, hyperband halves in brackets, median "
        "ends what is worse than the median, asha is Ray's rule across strata, for comparison; none ends no trial.",
    )
    rungs: RungsConfig = Field(default=RungsConfig(), description="Where trials are compared.")
    cohort: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Configurations of a stratum that are drawn and decided together; null: up to 4 parts of at "
        "least eta^2 each, or all of them with the sampler grid.",
    )
    patience_fraction: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="patient_halving: share of a cohort's FLOPs that trials kept below the cut may use.",
    )
    asynchronous: bool = Field(
        default=False,
        description="cohort_halving: promote by order of arrival, without waiting. Trials and decisions then depend on "
        "the number of workers and on interruptions.",
    )

    @property
    def num_final_repeats(self) -> int:
        """Seeds of the best configuration of every stratum."""
        return self.repeats if self.final_repeats is None else self.final_repeats

    @field_validator("final_repeats")
    @classmethod
    def _not_fewer(cls, value: int | None, info: ValidationInfo) -> int | None:
        repeats = info.data.get("repeats", 1)
        if value is not None and value < repeats:
            raise ValueError(f"{value}, but must be at least search.repeats = {repeats}")
        return value


class BudgetConfig(_Section):
    """What the whole study may cost; at the limit running trials end with their results kept."""

    flops: _Flops | None = Field(
        default=None, description="FLOPs of training and evaluation, all trials: 4e13 or 40T; null: no limit."
    )
    wall_seconds: float | None = Field(default=None, gt=0, description="Seconds of the driver; null: no limit.")
    device_hours: float | None = Field(
        default=None, gt=0, description="Hours of GPUs in legs, of processors where a trial has none; null: no limit."
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Trials in all, as many in every stratum; null: no limit.",
    )
    split: Literal["equal", "shared"] | dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default="equal",
        description="Who may spend budget.flops: every stratum the same; shared: whoever comes first; or the share of "
        "each stratum by its label, from 0 to 1.",
    )


class CheckpointsConfig(_Section):
    """What the checkpoints of all trials may take on the disk."""

    max_bytes: _Bytes | None = Field(
        default=None,
        description="Bytes of all checkpoints at any time: 500MB, 1.5GiB; null: no limit. Trials that wait keep their "
        "last one, the best of a stratum its best weights, the others lose theirs where room is needed.",
    )


class TrackingConfig(_Section):
    """Who else is told."""

    wandb: Literal["disabled", "offline", "online"] = Field(
        default="disabled",
        description="Weights & Biases: offline writes files for `wandb sync`, online sends at once and needs a key.",
    )
    project: str = Field(default="crossover", min_length=1, description="W&B project.")
    entity: str | None = Field(default=None, min_length=1, description="W&B team or user; null: the key's own.")
    tensorboard: bool = Field(default=False, description="Write event files into <study>/tracking/tensorboard.")

    @model_validator(mode="after")
    def _nothing_set_is_ignored(self) -> Self:
        for name in ("project", "entity"):
            if self.wandb == "disabled" and name in self.model_fields_set and getattr(self, name) != _default(name):
                raise ValueError(
                    f"{name} is for Weights & Biases, and tracking.wandb is disabled: set it to offline or online"
                )
        return self


def _default(name: str) -> Any:
    return TrackingConfig.model_fields[name].default


class Study(_Section):
    """One study."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of the study and of its folder: letters, digits, '.', '_' and '-', 64 at most.",
    )
    description: str = Field(default="", description="What the study asks, in words.")
    data: StudyData
    fixed: dict[str, Annotated[Any, AfterValidator(_plain)]] = Field(
        default_factory=dict,
        description="Settings that do not vary: dotted path of TrialConfig -> value; they hold where no axis applies.",
    )
    axes: dict[str, Axis] = Field(
        default_factory=dict,
        description="Settings that vary: dotted path of TrialConfig -> axis. A scientific axis whose name has no dot "
        "sets nothing: it splits strata and can be named by `when`.",
    )
    search: SearchConfig = SearchConfig()
    stopping: StoppingConfig = StoppingConfig()
    budget: BudgetConfig = BudgetConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: Annotated[str, AfterValidator(_folder)] = Field(
        default="./runs",
        description="Folder in which the study makes its own, <storage>/<name>: a path, or in an "
        "object store s3://bucket/folder?region=... or gs://bucket/folder, with credentials from the environment.",
    )

    @field_validator("axes", mode="before")
    @classmethod
    def _counts_in_axes(cls, axes: Any) -> Any:
        if not isinstance(axes, dict):
            return axes
        read = {}
        for path, axis in axes.items():
            try:
                read[path] = _with_counts(path, axis) if isinstance(axis, dict) else axis
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        return read

    @cached_property
    def base(self) -> dict[str, Scalar]:
        """Every setting that does not vary, by dotted path: data, stopping and fixed."""
        data = {f"data.{name}": value for name, value in self.data.model_dump().items()}
        stopping = {f"stopping.{name}": value for name, value in self.stopping.model_dump().items()}
        return {**data, **stopping, **self.fixed}

    @cached_property
    def space(self) -> Space:
        """The axes, with what is fixed."""
        return Space(self.axes, self.base)

    @property
    def labels(self) -> frozenset[str]:
        """Names of the axes that set nothing."""
        return frozenset(path for path in self.axes if "." not in path and path not in TrialConfig.model_fields)

    def strata(self) -> list[Stratum]:
        """Every combination of the scientific axes' values that applies."""
        return self.space.strata()

    def num_configurations(self, stratum: Stratum) -> int:
        """Configurations of a stratum: `search.trials` if anything is sampled, else all that are allowed.

        Never more than its part of `budget.trials` pays for.
        """
        if self.space.is_sampled(stratum) and self.search.trials is not None:
            return min(self.search.trials, self._most_configurations)
        if stratum.label not in self._num_points:
            points = self.space.points(stratum) or ()
            self._num_points[stratum.label] = sum(self.allows(stratum, point) for point in points)
        return min(self._num_points[stratum.label], self._most_configurations)

    @cached_property
    def _most_configurations(self) -> int:
        """Configurations of a stratum for which `budget.trials` has room, beside the last repeats of its best one."""
        if self.budget.trials is None:
            return sys.maxsize
        search, trials = self.search, self.budget.trials // max(1, len(self.strata()))
        return max(0, trials - (search.num_final_repeats - search.repeats)) // search.repeats

    def allows(self, stratum: Stratum, settings: Mapping[str, Scalar]) -> bool:
        """Whether a configuration keeps `search.constraints`."""
        constraints = self.search.constraints
        return not (constraints.given() and any(constraints.broken(self.cost(stratum, settings))))

    def cost(self, stratum: Stratum, settings: Mapping[str, Scalar]) -> Cost:
        """What a configuration needs, before it runs."""
        return cost_of(self.trial_config(stratum, settings))

    @cached_property
    def _num_points(self) -> dict[str, int]:
        return {}

    def trial_config(self, stratum: Stratum, settings: Mapping[str, Scalar], repeat: int = 0) -> TrialConfig:
        """The configuration of one trial.

        Args:
            stratum: Where it belongs.
            settings: Nuisance settings, from `space.suggest`.
            repeat: Which seed, from 0; added to `seed` and, if `search.vary_data`, to `data.seed`, so that text and
                training both vary.

        Raises:
            ConfigError: the settings do not go together.
        """
        merged: dict[str, Any] = {**self.base, **stratum.settings, **settings}
        for label in self.labels:
            merged.pop(label, None)
        merged["seed"] = merged.get("seed", 0) + repeat
        merged["data.seed"] = merged["data.seed"] + (repeat if self.search.vary_data else 0)
        return config_from_dotted(merged)

    def same_questions(self, other: Study) -> list[str]:
        """What `other` would change in the results of this study, each as `path: here -> there`.

        Resources, storage, tracking, budget, description, `execution.*` and `checkpoint.*` change none, and
        `search.trials` and `search.final_repeats` may grow.
        """
        return differences(self, other)

    def freeze(self, data_hash: str) -> str:
        """The study as a document for its folder: every default written out, with corpus hash and versions.

        Args:
            data_hash: Hash of the corpus manifest.
        """
        return frozen_document(self, data_hash)


def _with_counts(path: str, axis: dict[str, Any]) -> dict[str, Any]:
    """Counts such as 24k in an axis of unique tokens, and in conditions on it, as numbers."""
    changed = dict(axis)
    if path == "data.unique_tokens":
        changed |= {
            kind: [parse_count(value) for value in axis[kind]]
            for kind in ("choice", "grid", "integer")
            if isinstance(axis.get(kind), list)
        }
    when = axis.get("when")
    if isinstance(when, dict) and "data.unique_tokens" in when:
        wanted = when["data.unique_tokens"]
        counts = [parse_count(value) for value in wanted] if isinstance(wanted, list) else parse_count(wanted)
        changed["when"] = {**when, "data.unique_tokens": counts}
    return changed
