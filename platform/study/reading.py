"""Reading a study: from a file or by name, or frozen from the folder of one that was started.

`read_study` refuses, before anything starts, what is wrong, impossible in some stratum, or without effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crossover.platform.study.check import structure_mistakes, study_mistakes
from crossover.platform.study.document import parse_yaml
from crossover.platform.study.errors import StudyError, mistakes_of
from crossover.platform.study.frozen import FROZEN_SCHEMA_VERSION, changed_defaults
from crossover.platform.study.model import Study
from crossover.platform.study.overlays import apply_overlay, read_overlay
from crossover.platform.study.overrides import apply_overrides
from crossover.search_spaces import near, same

__all__ = ["FrozenStudy", "builtin_studies", "read_frozen", "read_study", "study_of"]

_HOW_TO_RESUME = "To go on with it, give what it was started with: its file, or the name of a study that comes along"


@dataclass(frozen=True)
class FrozenStudy:
    """The study of a folder, as it was when it was started.

    Attributes:
        study: The study.
        data_hash: Hash of the corpus manifest.
        version: Version of Crossover that wrote it.
        defaults: Defaults of `TrialConfig` at that time, by dotted path.
    """

    study: Study
    data_hash: str
    version: str
    defaults: dict[str, Any]

    def differences(self, study: Study) -> list[str]:
        """What keeps `study` from going on in this folder: other questions, or other defaults of this version."""
        return [*self.study.same_questions(study), *changed_defaults(self.defaults, self.version)]


def builtin_studies() -> list[str]:
    """Names of the studies that come with the package."""
    folder = resources.files("crossover.search_spaces.studies")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_study(source: str | Path, overrides: Sequence[str] = (), overlay: str | None = None) -> Study:
    """A study, checked whole.

    Args:
        source: A file, or the name of a study of `crossover.search_spaces.studies`.
        overrides: `key=value` each: a dotted key of the document (`search.trials=4`), or a setting of `TrialConfig`
            (`schedule.epochs=10`, which goes into `fixed`).
        overlay: Name of an overlay of the study (`gpu`), or a file; it is laid on before the overrides.

    Raises:
        StudyError: every mistake, in one message.
    """
    text, what = _text_of(source)
    document = parse_yaml(text, what)
    if isinstance(document, dict) and "schema_version" in document:
        raise StudyError(what, f"this is the record of a study that was started. {_HOW_TO_RESUME}")
    if overlay is not None:
        document = apply_overlay(document, read_overlay(overlay, str(source)))
    return study_of(apply_overrides(document, overrides, what), what)


def study_of(document: Any, what: str) -> Study:
    """A study from the plain value of its document, checked whole.

    Raises:
        StudyError: every mistake, in one message.
    """
    study = parse_study(document, what)
    mistakes = study_mistakes(study)
    if mistakes:
        raise StudyError(what, mistakes)
    return study


def parse_study(document: Any, what: str) -> Study:
    """A study from the plain value of its document: every field sound, but not yet what they say together.

    Raises:
        StudyError: every mistake, in one message.
    """
    if not isinstance(document, dict):
        raise StudyError(what, f"a study is a mapping of settings, and this is {_kind(document)}")
    try:
        return Study.model_validate(document, strict=True)
    except ValidationError as error:
        raise StudyError(what, mistakes_of(error, Study)) from None


def read_frozen(path: str | Path) -> FrozenStudy:
    """The study of a folder.

    Args:
        path: `<storage>/<study>/study.yaml`, or that folder.

    Raises:
        StudyError: it cannot be read, is no frozen study, or is one of another version.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "study.yaml"
    what = f"study folder {str(file.parent)[:200]}"
    document = _frozen_document(file, what)
    if not isinstance(document, dict) or "schema_version" not in document:
        raise StudyError(what, "its study.yaml was not written by `crossover run`: name another folder")
    version = document.get("crossover_version")
    if not same(document["schema_version"], FROZEN_SCHEMA_VERSION):
        raise StudyError(
            what,
            f"its format is {document['schema_version']!r} (Crossover {version}), and this version reads "
            f"{FROZEN_SCHEMA_VERSION}: use that version, or another storage folder",
        )
    data_hash, defaults = document.get("data_hash"), document.get("defaults")
    if not (isinstance(data_hash, str) and isinstance(version, str) and isinstance(defaults, dict)):
        raise StudyError(what, "its study.yaml is damaged: data_hash, crossover_version or defaults are missing")
    try:
        study = parse_study(document.get("study"), what)
        if mistakes := structure_mistakes(study):
            raise StudyError(what, mistakes)
    except StudyError as error:
        raise StudyError(what, [f"(written by Crossover {version}) {mistake}" for mistake in error.mistakes]) from None
    return FrozenStudy(study, data_hash, version, defaults)


def _frozen_document(file: Path, what: str) -> Any:
    if not file.exists():
        raise StudyError(what, f"No such file: {file.name}. Give the folder that `crossover run` made")
    try:
        return parse_yaml(_bytes_of(file, what), what)
    except StudyError as error:
        mistakes = "; ".join(error.mistakes)
        remedy = "restore it from a copy, or name another folder"
        raise StudyError(what, f"its study.yaml is damaged ({mistakes}): {remedy}") from None


def _kind(document: Any) -> str:
    if document is None:
        return "empty"
    return "a list" if isinstance(document, list) else f"the single value {str(document)[:40]!r}"


def _text_of(source: str | Path) -> tuple[bytes, str]:
    path = Path(source)
    is_name = isinstance(source, str) and path.suffix not in (".yaml", ".yml") and "/" not in source
    if is_name and source in builtin_studies():
        folder = resources.files("crossover.search_spaces.studies")
        return folder.joinpath(f"{source}.yaml").read_bytes(), f"study {source}"
    what = f"study {str(source)[:200]}"
    if is_name and not _is_file(path):
        known = builtin_studies()
        hint = near(str(source), known) or "; the studies that come along: " + ", ".join(known)
        raise StudyError(what, f"neither a file nor a study that comes along{hint}")
    return _bytes_of(path, what), what


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _bytes_of(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        is_study = (path / "study.yaml").is_file()
        remedy = f"the folder of a study that was started. {_HOW_TO_RESUME}" if is_study else "a folder: give a file"
        raise StudyError(what, f"this is {remedy}") from None
    except FileNotFoundError:
        raise StudyError(what, "No such file: give a study's file, or one of `crossover studies`") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StudyError(what, f"cannot be read: {reason}") from None
