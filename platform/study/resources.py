"""`resources`: what one trial runs on."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_serializer,
    model_validator,
)

__all__ = ["ResourcesConfig", "WorkerRange"]


class WorkerRange(BaseModel):
    """How many workers a trial has; where the two differ, as many as there is room for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    min: int = Field(ge=1, le=100_000, description="Fewest workers with which a trial runs.")
    max: int = Field(ge=1, le=100_000, description="Most workers of a trial.")
    resize_seconds: float = Field(
        default=60.0, gt=0, description="How often a running trial looks whether it can have more workers."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min = {self.min} is more than max = {self.max}: swap them")
        return self

    @model_serializer(mode="wrap")
    def _short(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return self.min if self.min == self.max else serialize(self)


def _as_range(value: Any) -> Any:
    if isinstance(value, dict | WorkerRange):
        return value
    if value == "auto":
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number of workers, and no range such as {{min: 1, max: 2}}, nor auto")
    if value < 1:
        raise ValueError(f"{value}, but a trial needs 1 worker at least")
    return {"min": value, "max": value}


def _or_auto(value: WorkerRange | None, serialize: SerializerFunctionWrapHandler) -> Any:
    return "auto" if value is None else serialize(value)


class ResourcesConfig(BaseModel):
    """What one trial runs on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    workers: Annotated[
        WorkerRange | None,
        BeforeValidator(_as_range, json_schema_input_type=Annotated[int, Field(ge=1)] | Literal["auto"] | WorkerRange),
        WrapSerializer(_or_auto),
    ] = Field(
        default=WorkerRange(min=1, max=1),
        description="Workers of a trial: a number; {min: , max: } to run with as many as there is room for; auto: the "
        "fewest GPUs in whose memory the trial is estimated to fit, and 1 with gpus_per_worker 0. The number, or min, "
        "divides schedule.batch_size; else only numbers that do are used.",
    )
    cpus_per_worker: int = Field(default=1, gt=0, le=4_096, description="Processors of a worker, and its threads.")
    gpus_per_worker: float = Field(
        default=0, ge=0, le=1, description="GPUs of a worker, one at most; a fraction shares one between trials."
    )
    launcher: Literal["auto", "ray_train"] = Field(
        default="auto",
        description="auto: a trial of one worker runs in a reused Tune actor, one of several in Ray Train; ray_train: "
        "always in Ray Train.",
    )
    max_failures: int = Field(
        default=2,
        ge=0,
        le=1_000_000,
        description="How often lost workers are replaced within one leg in Ray Train before the leg counts as failed.",
    )
    hang_seconds: float = Field(
        default=1800.0,
        gt=0,
        description="A leg that says nothing for so long is killed, and goes on from its newest checkpoint.",
    )

    @property
    def given_workers(self) -> WorkerRange | None:
        """The workers of every trial; None: each trial's memory decides."""
        if self.workers is None and not self.gpus_per_worker:
            return WorkerRange(min=1, max=1)
        return self.workers

    @property
    def devices_per_worker(self) -> float:
        """What a worker adds to device-hours: its GPUs, or its processors where it has none."""
        return self.gpus_per_worker or self.cpus_per_worker

    @property
    def uses_ray_train(self) -> bool:
        """Whether legs run in Ray Train, or some of them may."""
        workers = self.given_workers
        return self.launcher == "ray_train" or workers is None or workers.max > 1

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.max_failures != type(self).model_fields["max_failures"].default and not self.uses_ray_train:
            raise ValueError("max_failures is for trials in Ray Train: set workers above 1, or remove it")
        workers = self.given_workers
        if (workers is None or workers.max > 1) and self.gpus_per_worker % 1:
            raise ValueError(
                f"gpus_per_worker = {self.gpus_per_worker:g}, but workers of one trial cannot share a GPU: set it to 1 "
                "or 0, or set workers to 1"
            )
        return self
