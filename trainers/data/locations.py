"""Where text and corpora lie: local paths, globs of them, and whatever `pyarrow.fs` opens by a URI (s3, gs, ...).

A remote file is read in ranges, each of which is tried again with growing pauses, so a throttled or lost connection
costs time and not the run. In a URI `?` begins the query, as in s3://bucket/folder?region=eu-west-1; `*` is a wildcard.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs as pa_fs

from crossover.trainers.data.sources import UnfinishedError, find_files, is_skipped
from crossover.trainers.errors import CorpusError
from crossover.trainers.places import is_uri

__all__ = [
    "InputFile",
    "filesystem_of",
    "forget_filesystems",
    "list_inputs",
    "local_input",
    "open_input",
    "retried",
]

_ATTEMPTS = 7
_FIRST_PAUSE_SECONDS = 0.1  # doubled each time: 6 s in all, beside what the store's own client tries
_RANGE_BYTES = 8 << 20
_FINAL = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "NO_SUCH_KEY", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")

Result = TypeVar("Result")


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Args:
        name: path, or URI.
        size: its bytes.
        modified: when it was changed, as its file system says, so that a change is noticed.
    """

    name: str
    size: int
    modified: str = ""


def list_inputs(sources: Sequence[str]) -> list[InputFile]:
    """The files that sources name, in an order that does not depend on the file system.

    Args:
        sources: files, folders that are searched through (hidden names and caches skipped), globs; paths or URIs.

    Raises:
        CorpusError: a source does not exist, or cannot be listed.
    """
    return [file for source in sources for file in _files_of(source)]


def local_input(path: Path) -> InputFile:
    """A local file.

    Raises:
        CorpusError: it cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}): make it readable or leave it out") from None
    return InputFile(str(path), status.st_size, str(status.st_mtime_ns))


def _files_of(source: str) -> list[InputFile]:
    if is_uri(source):
        return _remote_files(source)
    path = Path(source)
    if not re.search(r"[*?\[]", source) or path.exists():
        return [local_input(file) for file in find_files([path])]
    found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise CorpusError(f"source {source} matches nothing: look at the pattern and at its folder")
    return [local_input(file) for file in find_files(found)]


def _remote_files(uri: str) -> list[InputFile]:
    system, path = filesystem_of(uri)
    folders = PurePosixPath(path).parts
    fixed = next((place for place, name in enumerate(folders) if re.search(r"[*\[]", name)), len(folders))
    base = str(PurePosixPath(*folders[:fixed]))
    pattern = _as_regex(folders[fixed:])
    infos = retried(lambda: _listed(system, base), uri)
    files = sorted((info for info in infos if info.type == pa_fs.FileType.File), key=lambda info: info.path)
    kept = [info for info in files if pattern.fullmatch(info.path.removeprefix(base))]
    if not kept:
        raise CorpusError(f"source {uri} names no file: look at what lies there, and at the spelling")
    scheme, query = uri.partition("://")[0], uri.partition("?")[2]
    return [InputFile(f"{scheme}://{info.path}{query and f'?{query}'}", info.size, str(info.mtime_ns)) for info in kept]


def _listed(system: pa_fs.FileSystem, base: str) -> list[Any]:
    here = system.get_file_info(base)
    if here.type == pa_fs.FileType.File:
        return [here]
    found: list[Any] = system.get_file_info(pa_fs.FileSelector(base, recursive=True, allow_not_found=True))
    return [info for info in found if not any(map(is_skipped, info.path.removeprefix(base).split("/")))]


def _as_regex(parts: Sequence[str]) -> re.Pattern[str]:
    """Of what follows the fixed folders: `*` stays in its folder, `**` goes through several; a match is searched."""
    pieces = {"**": r"(/[^/]*)*?"}
    text = "".join(
        pieces.get(part, "/" + re.sub(r"\\\*", "[^/]*", re.escape(part)).replace(r"\[", "[").replace(r"\]", "]"))
        for part in parts
    )
    return re.compile(f"{text}(/.*)?")


@lru_cache(maxsize=64)
def _filesystem(root: str) -> pa_fs.FileSystem:
    return pa_fs.FileSystem.from_uri(root)[0]


def forget_filesystems() -> None:
    """Clients are made anew from here on, so that credentials that were renewed meanwhile are read."""
    _filesystem.cache_clear()


def filesystem_of(uri: str) -> tuple[pa_fs.FileSystem, str]:
    """The file system of a URI, and the path in it.

    Raises:
        CorpusError: there is no such kind of store, or the URI is wrong.
    """
    scheme, _, rest = uri.partition("://")
    where, _, query = rest.partition("?")
    host, _, path = where.partition("/")
    try:
        system = _filesystem(f"{scheme}://{host}{'/' if scheme == 'file' else ''}{query and f'?{query}'}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(
            f"{uri} cannot be opened ({error}): name a path, or a URI such as s3://bucket/folder"
        ) from None
    return system, f"/{path}" if scheme == "file" else f"{host.rpartition('@')[2]}/{path}".rstrip("/")


def open_input(file: InputFile) -> Any:
    """A seekable binary file; a remote one is read in ranges, each tried again.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_uri(file.name):
        return pa.OSFile(file.name, "rb")
    return pa.PythonFile(io.BufferedReader(_RemoteFile(file), _RANGE_BYTES), mode="r")


class _RemoteFile(io.RawIOBase):
    def __init__(self, file: InputFile) -> None:
        self._file, self._place = file, 0
        self._system, self._path = filesystem_of(file.name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._file.size)[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._file.size - self._place)
        if wanted <= 0:
            return 0
        raw = retried(lambda: self._range(self._place, wanted), self._file.name)
        buffer[: len(raw)] = raw
        self._place += len(raw)
        return len(raw)

    def _range(self, start: int, size: int) -> bytes:
        with self._system.open_input_file(self._path) as source:
            raw: bytes = source.read_at(size, start)
        if len(raw) != size:
            raise OSError(f"{size} bytes asked for, {len(raw)} came")
        return raw


def retried(action: Callable[[], Result], name: str) -> Result:
    """What `action` gives; where the store throttles or drops the connection, it is tried again after a while.

    Raises:
        UnfinishedError: it is refused, or did not come after several tries.
        FileNotFoundError: it is not there.
    """
    pause = _FIRST_PAUSE_SECONDS
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if attempt == _ATTEMPTS or any(word in str(error) for word in _FINAL):
                tries = "" if attempt == 1 else f" in {attempt} tries"
                raise UnfinishedError(
                    f"{name} cannot be read{tries} ({error}): look at its address, its permissions and the network"
                ) from None
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the last attempt returns or raises")
