"""A folder in an object store, through `pyarrow.fs`: objects are whole or absent, and passing trouble is waited out.

A small object is one PUT (`allow_delayed_open`), after which every reader sees it: that is what a commit is made of.
Throttling, lost connections and refused credentials are tried again with growing pauses for `PATIENCE_SECONDS` in all,
with a new client where credentials were refused, which reads again what renews them. Who has waited in vain once does
not wait again until something has worked.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pyarrow import fs as pa_fs

from crossover.trainers.data.locations import filesystem_of, forget_filesystems
from crossover.trainers.durable import is_disk_full, temporary, writing
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import joined, parts_of

__all__ = [
    "ObjectStore",
    "StorageError",
    "StoredFile",
    "is_storage_trouble",
    "storage_error_in",
]

PATIENCE_SECONDS = 180.0
"""So long a store may be away; CROSSOVER_STORAGE_PATIENCE names another number."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0
_AT_ONCE = 16
_BLOCK_BYTES = 8 << 20
_OPTIONS = {"s3": ("allow_delayed_open=true",), "gs": ("retry_limit_seconds=15",)}
_CREDENTIALS = re.compile(
    "expired|HTTP status 400|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|ACCESS_DENIED|"
    "UNAUTHENTICATED|PERMISSION_DENIED|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION",
    re.IGNORECASE,
)
_ABSENT = re.compile("NO_SUCH_BUCKET|HTTP status 301|bucket.*not exist", re.IGNORECASE)
_REQUEST_ID = re.compile(r" \(Request ID: .*?\)")
_TOLD_CHARACTERS = 240

T = TypeVar("T")
Trouble = Literal["absent", "credentials", "connection"]


class StorageError(CrossoverError):
    """A store that cannot be used: it does not answer, refuses, or is not there."""


@dataclass(frozen=True)
class StoredFile:
    """What a listing says of an object: its bytes, and when it was put there."""

    size: int
    modified_ns: int


@dataclass
class _Experience:
    """What this process knows of a store."""

    has_worked: bool = False
    gave_up: bool = False


_EXPERIENCES: dict[str, _Experience] = {}


@dataclass(frozen=True)
class ObjectStore:
    """A folder in a store; names are relative to it, with slashes.

    Args:
        uri: of the folder, as s3://bucket/folder?region=eu-west-1.
        patience_seconds: how long it may be away; None: as long as everywhere.
    """

    uri: str
    patience_seconds: float | None = None

    def folder(self, name: str) -> ObjectStore:
        """A folder in it."""
        return replace(self, uri=joined(self.uri, name))

    def get(self, name: str) -> bytes | None:
        """An object's content; None: there is no such object.

        Raises:
            StorageError: the store cannot be read.
        """

        def read(system: pa_fs.FileSystem, path: str) -> bytes:
            with system.open_input_stream(path) as source:
                content: bytes = source.read()
                return content

        try:
            return self._tried("read", name, read)
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Puts an object, in place of what was there, whole or not at all.

        Raises:
            StorageError: the store cannot be written.
        """

        def write(system: pa_fs.FileSystem, path: str) -> None:
            with system.open_output_stream(path) as target:
                target.write(content)

        self._tried("written", name, write)

    def upload(self, files: Mapping[str, Path]) -> None:
        """Puts local files, by the names that they are to have.

        Raises:
            StorageError: the store cannot be written.
        """

        def write(item: tuple[str, Path]) -> None:
            self._tried("written", item[0], lambda system, path: _copy_out(item[1], system, path))

        _at_once(write, files.items())

    def download(self, files: Mapping[str, Path]) -> None:
        """Gets objects into local files, each whole or not at all.

        Raises:
            FileNotFoundError: one is not there, or no more.
            StorageError: the store cannot be read.
            RecordError: a file cannot be written.
        """

        def read(item: tuple[str, Path]) -> None:
            with writing(item[1]):
                item[1].parent.mkdir(parents=True, exist_ok=True)
            self._tried("read", item[0], lambda system, path: _copy_in(system, path, item[1]))

        _at_once(read, files.items())

    def list(self, name: str = "", *, recursive: bool = True) -> dict[str, StoredFile]:
        """Objects under a folder, by name; none where there is no such folder.

        Raises:
            StorageError: the store cannot be read.
        """

        def look(system: pa_fs.FileSystem, path: str) -> dict[str, StoredFile]:
            root = filesystem_of(self._options)[1]
            infos = system.get_file_info(pa_fs.FileSelector(path, recursive=recursive, allow_not_found=True))
            return {
                info.path.removeprefix(f"{root}/"): StoredFile(info.size, info.mtime_ns)
                for info in infos
                if info.type == pa_fs.FileType.File
            }

        return self._tried("read", name, look)

    def remove_folders(self, names: Iterable[str]) -> None:
        """Removes folders with all that is in them; one that is not there is no mistake.

        Raises:
            StorageError: the store cannot be written.
        """
        self._remove(names, lambda system, path: system.delete_dir(path))

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; one that is not there is no mistake.

        Raises:
            StorageError: the store cannot be written.
        """
        self._remove(names, lambda system, path: system.delete_file(path))

    def _remove(self, names: Iterable[str], action: Callable[[pa_fs.FileSystem, str], None]) -> None:
        def remove(name: str) -> None:
            with suppress(FileNotFoundError):
                self._tried("written", name, action)

        _at_once(remove, names)

    @property
    def _options(self) -> str:
        """The URI with what this module relies on, unless it says otherwise."""
        scheme, where, query = self.uri.partition("://")[0], *parts_of(self.uri)
        given = query.split("&") if query else []
        names = {option.partition("=")[0] for option in given}
        added = [option for option in _OPTIONS.get(scheme, ()) if option.partition("=")[0] not in names]
        return f"{where}{'?' if given or added else ''}{'&'.join([*given, *added])}"

    def _tried(self, verb: str, name: str, action: Callable[[pa_fs.FileSystem, str], T]) -> T:
        """What `action` gives, called again until it works or patience is at its end."""
        where = joined(self._options, name)
        known = _EXPERIENCES.setdefault(_root(self.uri), _Experience())
        begun, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action(*filesystem_of(where))
            except FileNotFoundError:
                raise
            except OSError as error:
                if is_disk_full(error):
                    raise
                trouble, waited = _trouble(error), time.monotonic() - begun
                is_hopeless = trouble == "absent" or (trouble == "credentials" and not known.has_worked)
                if is_hopeless or known.gave_up or waited + pause > (self.patience_seconds or _patience()):
                    known.gave_up = True
                    raise self._error(verb, name, trouble, error, waited) from None
                if trouble == "credentials":
                    forget_filesystems()
            else:
                known.has_worked, known.gave_up = True, False
                return result
            _pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _error(self, verb: str, name: str, trouble: Trouble, error: OSError, waited: float) -> StorageError:
        what = parts_of(joined(self.uri, name))[0]
        remedy = {
            "absent": "make the bucket, or name another --storage",
            "credentials": "its credentials have expired or are refused: renew them",
            "connection": "see whether it is up and reached from here",
        }[trouble]
        tried = f" (tried again for {waited:.0f} s)" if waited >= 1.0 else ""
        said = _REQUEST_ID.sub("", " ".join(str(error).split()))[:_TOLD_CHARACTERS]
        return StorageError(
            f"{what} cannot be {verb}{tried}: {said}. What was committed before stands: {remedy}, and run the same "
            "command again"
        )


def is_storage_trouble(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is the storage's and no fault of the trial: full, or out of reach."""
    return is_disk_full(error) or storage_error_in(error) is not None


def storage_error_in(error: BaseException | None) -> StorageError | None:
    """The error, or the one that it came from, that says what is wrong with a store; None: there is none."""
    while error is not None:
        if isinstance(error, StorageError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _root(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    where, query = parts_of(rest)
    return f"{scheme}://{where.partition('/')[0]}?{query}"


def _pause(seconds: float) -> None:
    """Not all for as long, so that many do not come back at once."""
    time.sleep(seconds * random.uniform(0.5, 1.0))


def _patience() -> float:
    given = os.environ.get("CROSSOVER_STORAGE_PATIENCE", "")
    try:
        return float(given) if given else PATIENCE_SECONDS
    except ValueError:
        raise StorageError(f"CROSSOVER_STORAGE_PATIENCE = {given!r} is no number of seconds: set one") from None


def _trouble(error: OSError) -> Trouble:
    if _ABSENT.search(str(error)):
        return "absent"
    return "credentials" if _CREDENTIALS.search(str(error)) else "connection"


def _at_once(action: Callable[[Any], None], items: Iterable[Any]) -> None:
    todo = list(items)
    if len(todo) < 2:
        for item in todo:
            action(item)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(todo)), thread_name_prefix="store") as threads:
        for _ in threads.map(action, todo):
            pass


def _copy_out(source: Path, system: pa_fs.FileSystem, path: str) -> None:
    with source.open("rb") as file, system.open_output_stream(path) as target:
        while block := file.read(_BLOCK_BYTES):
            target.write(block)


def _copy_in(system: pa_fs.FileSystem, path: str, target: Path) -> None:
    place = temporary(target)
    try:
        with system.open_input_stream(path) as source, place.open("wb") as file:
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
        place.replace(target)
    finally:
        place.unlink(missing_ok=True)
