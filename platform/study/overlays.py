"""An overlay: a second document laid over a study's, such as the same questions at the scale of GPUs.

Groups of settings (`fixed`, `search`, ...) are merged name by name, axes one by one; null takes a name away. Built-in
overlays lie beside the built-in studies, as `overlays/<study>-<overlay>.yaml`.
"""

from __future__ import annotations

import copy
from importlib import resources
from pathlib import Path
from typing import Any

from crossover.platform.study.document import parse_yaml
from crossover.platform.study.errors import StudyError
from crossover.platform.study.model import Study

__all__ = ["apply_overlay", "builtin_overlays", "read_overlay"]


def builtin_overlays(study: str) -> list[str]:
    """Names of the overlays that come with a built-in study."""
    names = (item.name for item in _folder().iterdir())
    return sorted(name[len(study) + 1 : -5] for name in names if name.startswith(f"{study}-") and _is_of(name, study))


def read_overlay(overlay: str, study: str) -> dict[str, Any]:
    """The document of an overlay.

    Args:
        overlay: Name of one that comes with the study, or a file.
        study: What it will lie over: a name, or a file.

    Raises:
        StudyError: there is none of that name, or it is no mapping.
    """
    what = f"overlay {overlay[:200]}"
    built_in = _folder().joinpath(f"{study}-{overlay}.yaml")
    if overlay in builtin_overlays(study):
        text = built_in.read_bytes()
    elif Path(overlay).is_file():
        text = Path(overlay).read_bytes()
    else:
        known = ", ".join(builtin_overlays(study)) or "none"
        raise StudyError(what, f"it is no file, and no overlay of {study[:200]} (there is: {known})")
    document = parse_yaml(text, what)
    if not isinstance(document, dict):
        raise StudyError(what, "an overlay is a mapping of settings, as a study is")
    unknown = [str(name) for name in document if name not in Study.model_fields]
    if unknown:
        raise StudyError(what, [f"{name[:80]}: a study has no such setting" for name in unknown])
    return document


def apply_overlay(document: Any, overlay: dict[str, Any]) -> Any:
    """The study's document with the overlay on it; both stay as they are."""
    if not isinstance(document, dict):
        return document
    merged = copy.deepcopy(document)
    for name, value in overlay.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**below, **above}.items() if value is not None or name not in above}


def _folder() -> Any:
    return resources.files("crossover.search_spaces.studies").joinpath("overlays")


def _is_of(name: str, study: str) -> bool:
    """Whether the file is that study's, and not of one whose name only begins with the study's."""
    from crossover.platform.study.reading import builtin_studies

    owners = [other for other in builtin_studies() if name.startswith(f"{other}-")]
    return name.endswith(".yaml") and max(owners, key=len, default="") == study
