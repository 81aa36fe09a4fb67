"""Every setting of `TrialConfig` by its dotted path, and what values each may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from crossover.platform.study.errors import shown
from crossover.search_spaces import near
from crossover.trainers.config import TrialConfig

__all__ = ["LEAVES", "near_setting", "value_mistake"]


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


LEAVES: dict[str, FieldInfo] = dict(_leaves(TrialConfig))


def near_setting(name: str, also: Iterable[str] = ()) -> str:
    """`; did you mean X?`: a setting whose last part is the name, else the closest one."""
    last = name.rpartition(".")[2]
    ends = [path for path in LEAVES if path.rpartition(".")[2] == last]
    if len(ends) == 1:
        return f"; did you mean {ends[0]}?"
    return near(name, [*LEAVES, *also]) or near_last(last)


def near_last(last: str) -> str:
    """`; did you mean X?`: the setting whose last part is closest."""
    by_last = {path.rpartition(".")[2]: path for path in LEAVES if not path.endswith(".name")}
    hint = near(last, by_last)
    return f"; did you mean {by_last[hint.removeprefix('; did you mean ').removesuffix('?')]}?" if hint else ""


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    field = LEAVES[path]
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def value_mistake(path: str, value: object) -> str | None:
    """What is wrong with a value of a setting by itself, with the value; None: nothing."""
    try:
        _adapter(path).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']} (got {shown(value)})"
    return None
