"""Finding local files, and making UTF-8 text of bytes: refused, repaired or left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from crossover.trainers.errors import CorpusError

__all__ = ["ErrorPolicy", "TextError", "UnfinishedError", "clean_text", "find_files", "is_skipped"]

ErrorPolicy = Literal["strict", "replace", "skip"]

_CACHE_FOLDERS = frozenset({"__pycache__", "node_modules"})
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextError(CorpusError):
    """One document that is no text, or cannot be had from its file: it may be left out and counted."""


class UnfinishedError(CorpusError):
    """Something outside failed (a store, the disk, a worker): what was done is kept, and the same command goes on."""


def is_skipped(name: str) -> bool:
    """Whether a file or folder of this name is passed over inside a source."""
    return name.startswith(".") or name in _CACHE_FOLDERS


def find_files(sources: Sequence[Path], left_out: frozenset[str] = frozenset()) -> list[Path]:
    """Files given, and those below the folders given, by relative path; hidden names and caches are skipped there.

    Args:
        sources: files and folders.
        left_out: names of further folders that are not entered.

    Raises:
        CorpusError: a source does not exist or cannot be listed.
    """
    return [path for source in sources for path in _files_of(source, left_out)]


def _files_of(source: Path, left_out: frozenset[str]) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise CorpusError(f"source {source} does not exist: give files, folders or patterns of them, or URIs")
    return sorted(_walk(source, left_out), key=lambda path: path.relative_to(source).as_posix())


def _walk(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_skipped(name) and name not in left_out]
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _refuse(error: OSError) -> None:
    raise CorpusError(f"folder {error.filename} cannot be listed ({error.strerror}): make it readable or leave it out")


def clean_text(raw: bytes, errors: ErrorPolicy) -> tuple[bytes, int]:
    """UTF-8 bytes of a text, and how many of its characters were replaced (0 unless errors is "replace").

    Raises:
        TextError: it is no UTF-8 text, or holds a NUL, and errors is not "replace". The caller says where.
    """
    fault = _first_fault(raw)
    if fault is None:
        return raw, 0
    if errors != "replace":
        raise TextError(
            f"is no UTF-8 text: {fault}. Convert it, leave it out, or go on with --errors replace, which puts U+FFFD "
            "in place of what cannot be read, or --errors skip, which leaves the document out; both count it"
        )
    text = raw.decode("utf-8", errors="replace").replace("\0", _REPLACEMENT)
    return text.encode(), text.count(_REPLACEMENT) - raw.count(_REPLACEMENT.encode())


def _first_fault(raw: bytes) -> str | None:
    nul = raw.find(0)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if nul < 0 or error.start < nul:
            return f"byte 0x{raw[error.start]:02x} at byte offset {error.start} ({error.reason})"
    return None if nul < 0 else f"byte 0x00 at byte offset {nul} (a binary file?)"
