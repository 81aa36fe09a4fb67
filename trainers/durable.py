"""Files and folders that are either whole or absent, whenever the process dies.

Everything is written under a name that starts with `.tmp-`, flushed to the disk and renamed into place; a folder is
renamed away before it is deleted. So what a reader sees by its own name is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError

from crossover.trainers.errors import RecordError

__all__ = [
    "TEMPORARY",
    "Digest",
    "digest_of",
    "durable_file",
    "flush",
    "is_disk_full",
    "put_in_place",
    "reason_of",
    "remove_folder",
    "remove_leftovers",
    "temporary",
    "writing",
]

TEMPORARY = ".tmp-"


class Digest(BaseModel):
    """Size and sha256 of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` is the one that was described. A missing file is not."""
        return path.is_file() and path.stat().st_size == self.size and digest_of(path) == self


def digest_of(path: Path) -> Digest:
    """The digest of the file at `path`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(size=file.tell(), sha256=sha256)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write (disk full, no permission) into one error that names the path.

    Raises:
        RecordError: whatever the operating system refused.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RecordError(
            f"{path} cannot be written: {reason_of(error)}. What was committed before stands: make room or give "
            "permission, and run the same command again"
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no room left: a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, SafetensorError) and f"os error {errno.ENOSPC}" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def temporary(path: Path) -> Path:
    """Where what is to stand at `path` is written first."""
    return path.with_name(f"{TEMPORARY}{path.name}")


def reason_of(error: Exception) -> str:
    """What the operating system said, without numbers and paths."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def durable_file(path: Path, content: bytes) -> None:
    """Writes `content` at `path`, replacing what was there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary(path).write_bytes(content)
        put_in_place({path: temporary(path)})
    except BaseException:
        temporary(path).unlink(missing_ok=True)
        raise


def put_in_place(moves: Mapping[Path, Path], threads: Executor | None = None) -> None:
    """Moves files and folders to the names that they are to have, in this order, replacing what was there.

    Args:
        moves: where each is now, in the same folder, by its name to be.
        threads: flush many files at once.
    """
    flush([inside for place in moves.values() for inside in (place, *place.rglob("*"))], threads)
    for path, place in moves.items():
        if place.is_dir():
            remove_folder(path)
        place.replace(path)
    flush(sorted({path.parent for path in moves}), threads)


def remove_folder(path: Path) -> None:
    """Removes the folder `path`, if there is one, so that no half of it ever stands under its name."""
    if path.is_dir():
        doomed = path.with_name(f"{TEMPORARY}removed-{path.name}")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed writer left directly under `folder`."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def flush(paths: Sequence[Path], threads: Executor | None = None) -> None:
    """Has files and folders on the disk.

    Args:
        paths: of the files and folders, without what is in these.
        threads: flush all at once, so that the file system writes its journal once for all of them. Measured on
            ext4, 11 files: 5 ms instead of 22, and starting the threads anew would double the processor time.
    """
    run = map if threads is None else threads.map
    for _ in run(_flush, paths):
        pass


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
