"""Law files: those that ship, and those that `crossover fit --output` writes."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crossover.platform.analysis.scaling_laws.laws import LAWS
from crossover.search_spaces import near
from crossover.trainers.errors import CrossoverError

__all__ = ["LawFile", "LawFileError", "ThresholdLaw", "is_threshold", "published_names", "read_law", "read_threshold"]


class LawFileError(CrossoverError):
    """A law file that cannot be read, or is not what is asked for."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Field(ge=1, le=1)
    title: str = ""
    source: str
    measured_on: str = ""
    range: dict[str, tuple[float, float]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


_Kind = TypeVar("_Kind", bound=_File)


class Widening(BaseModel):
    """What the largest runs said of the law's own intervals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scale: float = Field(gt=0)


class LawFile(_File):
    """A law with its parameters; `draws` where it was fitted here."""

    law: str
    families: tuple[str, ...] = Field(min_length=1)
    parameters: dict[str, float]
    draws: tuple[tuple[float, ...], ...] = ()
    residual_error: float | None = Field(default=None, description="Standard error of ln loss of one run.")
    residual_errors: dict[str, float] = Field(default_factory=dict, description="The same by family.")
    shared: tuple[str, ...] = Field(default=(), description="Parameters that all families have in common.")
    sparsity: float | None = Field(default=None, ge=1, description="Total over active parameters; 1 is dense.")
    held_out: Widening | None = None

    @model_validator(mode="after")
    def _holds_its_law(self) -> Self:
        if self.law not in LAWS:
            raise ValueError(f"law is {self.law!r}, but must be one of {', '.join(LAWS)}")
        for family in self.families:
            for parameter in LAWS[self.law].parameters:
                value = self.value(parameter.name, family)
                if value is None or not math.isfinite(value):
                    raise ValueError(f"parameters has no {parameter.name} of {family}: a {self.law} law needs it")
                if value < parameter.lower or value > parameter.upper:
                    bounds = f"{parameter.lower:g} and {parameter.upper:g}"
                    raise ValueError(f"{parameter.name} is {value:g}, but must lie between {bounds}")
        columns = sum(1 if p.name in self.shared else len(self.families) for p in LAWS[self.law].parameters)
        if any(len(draw) != columns for draw in self.draws):
            raise ValueError(f"each of draws must have {columns} values, one a parameter")
        return self

    def value(self, name: str, family: str) -> float | None:
        """A parameter of one family."""
        return self.parameters.get(name, self.parameters.get(f"{name}[{family}]"))


class Threshold(BaseModel):
    """C_crit = c U^p."""

    model_config = ConfigDict(frozen=True)

    c: float = Field(gt=0)
    p: float


class ThresholdLaw(_File):
    """From which compute on masked diffusion is ahead."""

    threshold: Threshold

    def flops(self, unique_tokens: float) -> float:
        """C_crit of U unique tokens, in FLOPs."""
        return float(self.threshold.c * unique_tokens**self.threshold.p)


def published_names() -> tuple[str, ...]:
    """The laws that ship."""
    files = resources.files("crossover.platform.analysis.published_laws").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def read_law(name: str | Path) -> LawFile:
    """A published law by name, or a law file.

    Raises:
        LawFileError: there is none, or it is damaged or no law of losses.
    """
    return _read(name, LawFile)


def read_threshold(name: str | Path) -> ThresholdLaw:
    """A published C_crit by name, or a file of one.

    Raises:
        LawFileError: there is none, or it is damaged or no such law.
    """
    return _read(name, ThresholdLaw)


def is_threshold(name: str | Path) -> bool:
    """Whether a file is a law of C_crit and not of losses.

    Raises:
        LawFileError: there is no such file.
    """
    return '"threshold"' in _text(name)


def _read(name: str | Path, kind: type[_Kind]) -> _Kind:
    text = _text(name)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        wanted = "law" if kind is LawFile else "law of C_crit"
        raise LawFileError(f"{name} is no {wanted}: {place}{': ' if place else ''}{first['msg']}") from None


def _text(name: str | Path) -> str:
    if str(name) in published_names():
        file = resources.files("crossover.platform.analysis.published_laws") / f"{name}.json"
        return file.read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise LawFileError(
            f"{name} is neither a law file nor a published law{near(str(name), published_names())}; there are "
            f"{', '.join(published_names())}"
        ) from None
