"""`Axis`: one setting that a study varies, as its YAML writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from crossover.search_spaces.domains import Choice, Domain, Grid, Integer, LogUniform, Scalar, Uniform, same

__all__ = ["DOMAINS", "Axis", "Role"]

DOMAINS = ("choice", "uniform", "log_uniform", "integer", "grid")
MAX_VALUES = 1_000

Role = Literal["scientific", "nuisance"]


def _as_tuple(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list (got {str(value)[:80]})")
    return tuple(value)


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        raise ValueError("a value must be a string, a number, true, false or null")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    return value


def _wanted(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _scalar(value)
    if not 1 <= len(value) <= MAX_VALUES:
        raise ValueError(f"a condition names 1 to {MAX_VALUES} values (got {len(value)})")
    return tuple(_scalar(item) for item in value)


_SCALAR_SCHEMA: dict[str, Any] = {"type": ["string", "integer", "number", "boolean", "null"]}
_WANTED_SCHEMA: dict[str, Any] = {"anyOf": [_SCALAR_SCHEMA, {"type": "array", "items": _SCALAR_SCHEMA, "minItems": 1}]}

_ScalarField = Annotated[Any, AfterValidator(_scalar), WithJsonSchema(_SCALAR_SCHEMA)]
_Wanted = Annotated[Any, AfterValidator(_wanted), WithJsonSchema(_WANTED_SCHEMA)]
_Values = Annotated[Sequence[_ScalarField], Field(min_length=1, max_length=MAX_VALUES), BeforeValidator(_as_tuple)]
_FloatRange = Annotated[Sequence[float], Field(min_length=2, max_length=2), BeforeValidator(_as_tuple)]
_IntegerRange = Annotated[Sequence[int], Field(min_length=2, max_length=2), BeforeValidator(_as_tuple)]


class Axis(BaseModel):
    """One setting that a study varies: exactly one domain, what it is for, and where it applies.

    The path that it sets is its key in the study: `axes: {regularization.dropout: {choice: [0.0, 0.1]}}`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"oneOf": [{"required": [name]} for name in DOMAINS]},
    )

    choice: _Values | None = Field(default=None, description="One of these values; the sampler picks.")
    uniform: _FloatRange | None = Field(default=None, description="[low, high]: a number, uniform.")
    log_uniform: _FloatRange | None = Field(
        default=None, description="[low, high], low above 0: a number, uniform in its logarithm."
    )
    integer: _IntegerRange | None = Field(default=None, description="[low, high]: an integer, both ends included.")
    grid: _Values | None = Field(
        default=None, description="Every one of these values in order, crossed with the other grids."
    )
    role: Role = Field(
        description="scientific: what the study asks about, it splits strata; nuisance: tuned inside each stratum."
    )
    when: Mapping[str, _Wanted] = Field(
        default_factory=dict,
        description="Where the axis applies: path of another axis or fixed setting -> its value, or a list of values.",
    )

    @model_validator(mode="after")
    def _one_sound_domain(self) -> Self:
        given = [name for name in DOMAINS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"an axis has exactly one of {', '.join(DOMAINS)}: got {found}")
        _check_domain(given[0], getattr(self, given[0]))
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        written: dict[str, Any] = {self.kind: list(getattr(self, self.kind)), "role": self.role}
        if self.when:
            written["when"] = {path: list(v) if isinstance(v, tuple) else v for path, v in self.when.items()}
        return written

    @property
    def kind(self) -> str:
        """Name of the domain that is set."""
        return next(name for name in DOMAINS if getattr(self, name) is not None)

    @property
    def domain(self) -> Domain:
        """The values it can take."""
        if self.choice is not None:
            return Choice(tuple(self.choice))
        if self.grid is not None:
            return Grid(tuple(self.grid))
        if self.integer is not None:
            return Integer(*self.integer)
        if self.log_uniform is not None:
            return LogUniform(*self.log_uniform)
        assert self.uniform is not None
        return Uniform(*self.uniform)

    def allowed(self, path: str) -> tuple[Scalar, ...]:
        """Values of `path` under which this axis applies."""
        values = self.when[path]
        return values if isinstance(values, tuple) else (values,)

    def holds(self, settings: Mapping[str, Scalar]) -> bool:
        """Whether every condition is true; one on a path that has no value is false."""
        return all(
            path in settings and any(same(settings[path], value) for value in self.allowed(path)) for path in self.when
        )


def _check_domain(kind: str, values: tuple[Any, ...]) -> None:
    if kind in ("choice", "grid"):
        seen: set[object] = set()
        for value in values:
            meanings = {(isinstance(value, bool), value), str(value)}
            if meanings & seen:
                raise ValueError(f"{kind} has the value {value} twice: name each value once")
            seen |= meanings
        return
    low, high = values
    if not low < high:
        raise ValueError(f"{kind} = [{low}, {high}], but low must be below high (for one value: set it in fixed)")
    if kind == "log_uniform" and low <= 0:
        raise ValueError(f"log_uniform = [{low}, {high}], but a logarithm needs low above 0")
