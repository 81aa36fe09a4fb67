"""`--set key=value`: one setting of a study, from the command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from crossover.platform.study.document import parse_yaml
from crossover.platform.study.errors import StudyError, shown
from crossover.platform.study.model import Study
from crossover.platform.study.settings import LEAVES, near_setting
from crossover.search_spaces import Axis
from crossover.search_spaces.axis import DOMAINS

__all__ = ["apply_overrides"]

_SECTIONS = ("data", "search", "stopping", "budget", "checkpoints", "resources", "tracking")


def apply_overrides(document: Any, overrides: Sequence[str], what: str) -> Any:
    """The document with every `key=value` set.

    Keys are `search.trials` and the like; `fixed.<path>`, or a bare path of `TrialConfig`, for a fixed setting; and
    `axes.<path>` or `axes.<path>.<choice|role|...>` for an axis (null removes the axis; a new domain replaces the old).

    Raises:
        StudyError: a key that is none of these, or a value that is no YAML.
    """
    if not overrides or not isinstance(document, dict):
        return document
    changed = copy.deepcopy(document)
    mistakes: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            mistakes.append(f"--set {override[:80]}: write key=value, such as search.trials=4")
            continue
        try:
            problem = _set(changed, key.strip(), parse_yaml(text, f"--set {key}"))
        except StudyError as error:
            problem = str(error)
        if problem:
            mistakes.append(problem)
    if mistakes:
        raise StudyError(what, mistakes)
    return changed


def _set(document: dict[str, Any], key: str, value: Any) -> str | None:
    head, _, rest = key.partition(".")
    if head == "axes" and rest:
        return _set_axis(_section(document, "axes"), rest, value)
    if head == "fixed" and rest:
        _section(document, "fixed")[rest] = value
    elif head in _SECTIONS and rest:
        _section(document, head)[rest] = value
    elif not rest and head in Study.model_fields:
        document[head] = value
    elif key in LEAVES:
        _section(document, "fixed")[key] = value
    else:
        return f"--set {key}={shown(value)}: no such setting{near_setting(key, [*Study.model_fields, *_SEARCHABLE])}"
    axes = document.get("axes")
    if key == "data.unique_tokens" and isinstance(axes, dict) and key in axes:
        return f"--set {key}={shown(value)}: it is an axis of this study: set axes.{key}.choice=[...] instead"
    return None


_SEARCHABLE = [f"{name}.{field}" for name in _SECTIONS for field in Study.model_fields[name].annotation.model_fields]  # type: ignore[union-attr]


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    place = document.get(name)
    if not isinstance(place, dict):
        place = document[name] = {}
    return place


def _set_axis(axes: dict[str, Any], key: str, value: Any) -> str | None:
    path, _, name = key.rpartition(".")
    if name not in Axis.model_fields or not path:
        if value is None and key not in axes:
            return f"--set axes.{key}=null: the study has no such axis"
        if value is None:
            del axes[key]
        else:
            axes[key] = value
        return None
    axis = axes.get(path)
    if not isinstance(axis, dict):
        axis = axes[path] = {}
    if name in DOMAINS:
        for other in DOMAINS:
            axis.pop(other, None)
    axis[name] = value
    return None
