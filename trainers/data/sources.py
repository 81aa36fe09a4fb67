"""Finding text files and reading them as UTF-8 documents, one file a document."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossover.trainers.errors import CorpusError

__all__ = ["Document", "DocumentScan", "ErrorPolicy", "find_files", "read_text", "scan_documents"]

ErrorPolicy = Literal["strict", "replace"]

_CACHE_FOLDERS = frozenset({"__pycache__", "node_modules"})
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Document:
    """A text that is kept: where it is, and the sha256 of its bytes (after repair)."""

    path: Path
    digest: bytes


@dataclass(frozen=True)
class DocumentScan:
    """The distinct, non-empty documents of some files, and what was left out or repaired."""

    documents: list[Document]
    num_files: int
    num_empty: int
    num_duplicates: int
    num_files_replaced: int
    num_characters_replaced: int


def find_files(sources: Sequence[Path], left_out: frozenset[str] = frozenset()) -> list[Path]:
    """Files given, and those below the folders given, by relative path; hidden names and caches are skipped there.

    Args:
        sources: files and folders.
        left_out: names of further folders that are not entered.

    Raises:
        CorpusError: a source does not exist or cannot be listed.
    """
    return [path for source in sources for path in _files_of(source, left_out | _CACHE_FOLDERS)]


def _files_of(source: Path, left_out: frozenset[str]) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise CorpusError(f"source {source} does not exist: give text files, or folders of them")
    return sorted(_walk(source, left_out), key=lambda path: path.relative_to(source).as_posix())


def _walk(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in left_out]
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _refuse(error: OSError) -> None:
    raise CorpusError(f"folder {error.filename} cannot be listed ({error.strerror}): make it readable or leave it out")


def read_text(path: Path, errors: ErrorPolicy) -> tuple[bytes, int]:
    """UTF-8 bytes of a text file, and how many of its characters were replaced (0 unless errors is "replace").

    Raises:
        CorpusError: it cannot be read; or it is no UTF-8 text, or holds a NUL, and errors is "strict".
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}): make it readable or leave it out") from None
    fault = _first_fault(raw)
    if fault is None:
        return raw, 0
    if errors == "strict":
        raise CorpusError(
            f"{path} is no UTF-8 text: {fault}. Convert it, leave it out, or go on with --errors replace, which puts "
            "U+FFFD in place of what cannot be read and counts it"
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


def scan_documents(files: Sequence[Path], errors: ErrorPolicy) -> DocumentScan:
    """Reads each file once, one at a time in memory; of equal texts the first is kept.

    Raises:
        CorpusError: see `read_text`.
    """
    kept: dict[bytes, Document] = {}
    num_empty = num_duplicates = num_files_replaced = num_characters_replaced = 0
    for path in files:
        text, num_replaced = read_text(path, errors)
        digest = hashlib.sha256(text).digest()
        if not text:
            num_empty += 1
        elif digest in kept:
            num_duplicates += 1
        else:
            kept[digest] = Document(path, digest)
            num_files_replaced += num_replaced > 0
            num_characters_replaced += num_replaced
    return DocumentScan(
        list(kept.values()), len(files), num_empty, num_duplicates, num_files_replaced, num_characters_replaced
    )
