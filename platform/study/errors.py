"""`StudyError`: everything that is wrong with a study, in one message."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from crossover.search_spaces import near
from crossover.trainers.errors import CrossoverError

__all__ = ["StudyError", "mistakes_of", "shown"]

_MAX_SHOWN_CHARACTERS = 80
_MAX_MISTAKE_CHARACTERS = 600
_MAX_LISTED = 20
_ONE_METRIC = (
    "trials are compared by val_bits_per_byte, which every trial reports, lower is better, and by no other metric: "
    "remove it"
)
_NOT_SETTINGS = {"search.metric": _ONE_METRIC, "search.mode": _ONE_METRIC, "stopping.metric": _ONE_METRIC}


class StudyError(CrossoverError):
    """A study that cannot be run.

    Args:
        what: What was read, such as `study quickstart.yaml`.
        mistakes: Every mistake: path, rule, value and remedy.
    """

    def __init__(self, what: str, mistakes: str | Sequence[str]) -> None:
        given = (mistakes,) if isinstance(mistakes, str) else mistakes
        self.mistakes = tuple(_cut(mistake, _MAX_MISTAKE_CHARACTERS) for mistake in given)
        if len(self.mistakes) == 1:
            super().__init__(f"{what}: {self.mistakes[0]}")
            return
        listed = [f"  - {mistake}" for mistake in self.mistakes[:_MAX_LISTED]]
        if len(self.mistakes) > _MAX_LISTED:
            listed.append(f"  - and {len(self.mistakes) - _MAX_LISTED} more")
        super().__init__("\n".join([f"{what} has {len(self.mistakes)} mistakes:", *listed]))


def shown(value: object) -> str:
    """A value as a message shows it, cut to one line."""
    return _cut(repr(value), _MAX_SHOWN_CHARACTERS)


def mistakes_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Every mistake that pydantic found in a document of `model`, with the near name where one is unknown."""
    found = []
    for item in error.errors(include_url=False):
        location = [part for part in item["loc"] if part != "[key]"]
        path = _dotted(location) or "the document"
        message = item["msg"].removeprefix("Value error, ").replace(" after validation", "")
        match item["type"]:
            case "extra_forbidden":
                known = _field_names(model, location[:-1])
                if why := _NOT_SETTINGS.get(path):
                    found.append(f"{path} = {shown(item['input'])}: {why}")
                    continue
                found.append(f"{path}: no such field{near(str(location[-1]), known) or _listed(known)}")
            case "missing":
                found.append(f"{path}: required and not set")
            case "value_error":
                found.append(f"{path}: {message}" if location else message)
            case "model_type" | "dict_type" | "model_attributes_type":
                found.append(f"{path}: must be a mapping (got {shown(item['input'])})")
            case "string_pattern_mismatch":
                pattern = item["ctx"]["pattern"]
                found.append(f"{path}: {shown(item['input'])} must match {pattern}{_rule(model, location)}")
            case _:
                found.append(f"{path}: {message} (got {shown(item['input'])})")
    return list(dict.fromkeys(found))


def _rule(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """What the description of a top-level field says of it."""
    field = model.model_fields.get(str(location[0])) if len(location) == 1 else None
    return f" ({field.description.rstrip('.')})" if field is not None and field.description else ""


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def _listed(names: Sequence[str]) -> str:
    return f"; it has {', '.join(names)}" if names else ""


def _dotted(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return _cut(text, 2 * _MAX_SHOWN_CHARACTERS)


def _field_names(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    here: Any = model
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        elif get_origin(here) in (dict, Mapping):
            here = get_args(here)[1]
        here = _model_in(here)
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _model_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((part for part in get_args(annotation) if part is not type(None)), None)
    return annotation
