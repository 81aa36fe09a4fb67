"""The study in a study's folder: what is written there, and what may differ from it when the study goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from crossover.platform.study.document import write_yaml
from crossover.platform.study.settings import LEAVES
from crossover.search_spaces import same

if TYPE_CHECKING:
    from crossover.platform.study.model import Study

__all__ = ["FROZEN_SCHEMA_VERSION", "changed_defaults", "differences", "frozen_document"]

FROZEN_SCHEMA_VERSION = 1

_CHANGES_NO_RESULT = ("description", "storage", "resources", "tracking", "budget", "checkpoints")
_NOT_MATHEMATICS = ("execution.", "checkpoint.")
_MAY_GROW = ("search.trials", "search.final_repeats")


def frozen_document(study: Study, data_hash: str) -> str:
    """YAML of a study with every default, the hash of its corpus, and the versions that wrote it."""
    return "# Written by `crossover run`; a study goes on only with the same questions.\n" + write_yaml(
        {
            "schema_version": FROZEN_SCHEMA_VERSION,
            "crossover_version": version("crossover"),
            "data_hash": data_hash,
            "study": study.model_dump(mode="json"),
            "defaults": _defaults(),
        }
    )


def changed_defaults(then: Mapping[str, Any], written_by: str) -> list[str]:
    """Defaults that this version has otherwise than the one that froze a study: they make other trials."""
    now = _defaults()
    return [
        f"{path}: default {_text(then, path)} in Crossover {written_by} -> {_text(now, path)} in {version('crossover')}"
        for path in dict.fromkeys([*then, *now])
        if path not in then or path not in now or not same(then[path], now[path])
    ]


def differences(here: Study, there: Study) -> list[str]:
    """What changes the results from one study to the other, each as `path: here -> there`."""
    a, b = dict(_questions(here)), dict(_questions(there))
    found = [
        f"{path}: {_text(a, path)} -> {_text(b, path)}{' (it may only be raised)' if path in _MAY_GROW else ''}"
        for path in dict.fromkeys([*a, *b])
        if (path not in a or path not in b or not same(a[path], b[path])) and not _only_grew(path, a, b)
    ]
    if here.axes == there.axes and list(here.axes) != list(there.axes):  # labels and draws follow the order
        found.append(f"order of axes: {', '.join(here.axes)} -> {', '.join(there.axes)}")
    return found


def _only_grew(path: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return path in _MAY_GROW and (a[path] is None or (b[path] is not None and b[path] >= a[path]))


def _text(values: Mapping[str, Any], path: str) -> str:
    return str(values[path]) if path in values else "not set"


def _defaults() -> dict[str, Any]:
    return {
        path: field.get_default()
        for path, field in LEAVES.items()
        if not field.is_required() and not path.startswith(_NOT_MATHEMATICS)
    }


def _questions(study: Study) -> Iterator[tuple[str, Any]]:
    content = study.model_dump(mode="json", exclude=set(_CHANGES_NO_RESULT))
    fixed = {path: value for path, value in content.pop("fixed").items() if not path.startswith(_NOT_MATHEMATICS)}
    defaults = {path: value for path, value in _defaults().items() if not path.startswith(("data.", "stopping."))}
    yield "name", content.pop("name")
    yield from ((f"fixed.{path}", value) for path, value in {**defaults, **fixed}.items())
    yield from ((f"axes.{path}", axis) for path, axis in content.pop("axes").items())
    content["search"]["final_repeats"] = study.search.num_final_repeats
    for section, values in content.items():
        yield from ((f"{section}.{name}", value) for name, value in values.items())
