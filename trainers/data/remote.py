"""Corpora in object stores: each machine fetches one once, checks it, and reads its copy memory-mapped.

The copy is named for the content, so it is found again under any URI and never mixed with another version. One process
fetches under a lock while the others wait; a copy is whole or absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from crossover.trainers.data.locations import InputFile, filesystem_of, open_input, retried
from crossover.trainers.data.manifest import MANIFEST_NAME, Manifest
from crossover.trainers.data.sources import UnfinishedError
from crossover.trainers.errors import CorpusError

__all__ = ["fetched", "remote_manifest"]

_BLOCK_BYTES = 8 << 20


def fetched(uri: str, cache: Path) -> Path:
    """The folder of this machine's copy of a corpus, fetched if it is not there.

    Args:
        uri: of the corpus' folder.
        cache: folder of such copies.

    Raises:
        CorpusError: there is no corpus, it is damaged, or the cache cannot be written.
        UnfinishedError: the store cannot be reached.
    """
    raw = _manifest_bytes(uri)
    folder = cache / hashlib.sha256(raw).hexdigest()[:16]
    if (folder / MANIFEST_NAME).exists():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / MANIFEST_NAME).exists():
                _fetch(uri, raw, folder)
    except OSError as error:
        raise CorpusError(
            f"corpus {uri} cannot be kept in {cache} ({os.strerror(error.errno) if error.errno else error}): make "
            "room, or set CROSSOVER_CACHE to a folder that can be written"
        ) from None
    return folder


def remote_manifest(uri: str) -> Manifest:
    """The manifest of a corpus in a store.

    Raises:
        CorpusError: there is none, or it is damaged.
    """
    return Manifest.parse(_manifest_bytes(uri), _joined(uri, MANIFEST_NAME))


def _fetch(uri: str, raw: bytes, folder: Path) -> None:
    manifest = Manifest.parse(raw, _joined(uri, MANIFEST_NAME))
    waiting = folder.with_name(f".{folder.name}.fetching")
    waiting.mkdir(exist_ok=True)  # files that came before an interruption stay, if they are right
    for name, (size, sha256) in manifest.files.items():
        _fetch_file(_joined(uri, name), waiting / name, size, sha256)
    (waiting / MANIFEST_NAME).write_bytes(raw)
    shutil.rmtree(folder, ignore_errors=True)
    waiting.replace(folder)


def _fetch_file(uri: str, path: Path, size: int | None, sha256: str) -> None:
    if path.exists() and _sha256(path) == sha256:
        return
    file = InputFile(uri, retried(lambda: _size(uri), uri))
    with open_input(file) as source, path.open("wb") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    if (found := _sha256(path)) != sha256:
        path.unlink()
        raise CorpusError(
            f"{uri} came with sha256 {found}, not {sha256} as in its manifest: it is damaged in the store, or was "
            "changed; put the corpus there again"
        )


def _manifest_bytes(uri: str) -> bytes:
    where = _joined(uri, MANIFEST_NAME)
    try:
        with open_input(InputFile(where, retried(lambda: _size(where), where))) as source:
            raw: bytes = source.read()
            return raw
    except FileNotFoundError:
        raise CorpusError(
            f"corpus {uri} is no prepared corpus (there is no {MANIFEST_NAME} in it): prepare one with `crossover data "
            "prepare SOURCE... --output DIR`, and copy DIR there"
        ) from None
    except UnfinishedError as error:
        raise UnfinishedError(f"corpus {uri} cannot be opened: {error}") from None


def _size(uri: str) -> int:
    system, path = filesystem_of(uri)
    info = system.get_file_info(path)
    if info.size is None:
        raise FileNotFoundError(uri)
    size: int = info.size
    return size


def _joined(uri: str, name: str) -> str:
    where, mark, query = uri.partition("?")
    return f"{where.rstrip('/')}/{name}{mark}{query}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
