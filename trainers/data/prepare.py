"""`prepare_corpus`: from text in files or in object stores to a corpus folder that is whole or absent.

Documents are stored in the order of their sha256, so neither names nor places of files change the corpus. Parts of the
sources become runs sorted by hash, and a shard is one range of hashes, so memory does not grow with the corpus
(`preparation/runs.py`). Both steps are lists of jobs that any executor runs, and jobs done before an interruption stay.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crossover.trainers.data.locations import InputFile, list_inputs
from crossover.trainers.data.manifest import FORMAT_VERSION, MANIFEST_NAME, Manifest
from crossover.trainers.data.preparation.executors import Executor, Here, Processes, default_workers
from crossover.trainers.data.preparation.pipeline import PART_BYTES, Preparation, Progress
from crossover.trainers.data.preparation.readers import Columns, format_of
from crossover.trainers.data.preparation.settings import CorpusSettings
from crossover.trainers.data.preparation.workspace import workspace
from crossover.trainers.data.sources import UnfinishedError
from crossover.trainers.errors import CorpusError
from crossover.trainers.places import is_uri

__all__ = ["CorpusSettings", "prepare_corpus", "prepare_files"]

_MEMORY_BYTES = 2 << 30


def prepare_corpus(
    sources: Sequence[str | Path],
    output: Path,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Manifest:
    """Turns text into a corpus folder; a file of text, a line of JSON or a row of Parquet is one document.

    Args:
        sources: files, folders that are searched through (hidden names and caches in them are skipped), globs; paths,
            or URIs of `pyarrow.fs`.
        output: folder to make. One that holds the same corpus already is left as it is.
        executor: where the jobs run; None: here for little text, else in processes for all cores, within 2 GB.
        progress: is told how far it is.
        settings: fields of `CorpusSettings`.

    Raises:
        CorpusError: nothing to read, something that is no text, a split left empty, or an output that is in the way.
            Nothing is left behind, but where a store or the disk failed: then the same command goes on.
    """
    if not sources:
        raise CorpusError("no source was given: give files, folders or patterns of them, or URIs")
    names = tuple(str(source) for source in sources)
    for source in names:
        if not is_uri(source) and Path(source).is_dir() and output.resolve().is_relative_to(Path(source).resolve()):
            raise CorpusError(f"output {output} lies inside source {source} and would be read too: put it elsewhere")
    made = CorpusSettings(output.resolve().name, names, **settings)
    made.check()
    files = list_inputs(names)
    if made.columns.text != Columns().text and not any(format_of(file.name).has_columns for file in files):
        raise CorpusError(
            f"the text column is {made.columns.text!r}, but no source has columns (.jsonl, .parquet): leave it out"
        )
    return prepare_files(files, output, made, executor=executor, progress=progress)


def prepare_files(
    files: Sequence[InputFile],
    output: Path,
    settings: CorpusSettings,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    reuse: bool = False,
) -> Manifest:
    """Like `prepare_corpus`, for files that were found already.

    Args:
        files: to read.
        output: folder to make.
        settings: how.
        executor: see `prepare_corpus`.
        progress: see `prepare_corpus`.
        reuse: take a corpus that another process put there meanwhile, without making it again to compare.

    Raises:
        CorpusError: see `prepare_corpus`.
    """
    settings.check()
    try:
        _check_output(output)
        with workspace(output, _identity(files, settings)) as work:
            if reuse and (output / MANIFEST_NAME).exists():
                manifest = Manifest.read(output)
            else:
                manifest = _prepared(work, files, output, settings, executor, progress)
            shutil.rmtree(work)
        return manifest
    except UnfinishedError as error:
        raise UnfinishedError(f"{error}. {_goes_on(output)}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CorpusError(
            f"corpus folder {output} cannot be written ({reason}): make room, give permission or "
            "choose another place (for an embedded corpus set CROSSOVER_CACHE to a folder that can be written). "
            f"{_goes_on(output)}"
        ) from None


def _goes_on(output: Path) -> str:
    work = output.parent / f".{output.name}.preparing"
    return f"What was done is kept in {work}: run the same command again and it goes on from there, or delete it"


def _prepared(
    work: Path,
    files: Sequence[InputFile],
    output: Path,
    settings: CorpusSettings,
    executor: Executor | None,
    progress: Progress | None,
) -> Manifest:
    try:
        if executor is None:
            is_small = sum(file.size for file in files) <= PART_BYTES
            executor = Here() if is_small else Processes(default_workers(_MEMORY_BYTES))
        manifest = Preparation(work, files, settings, executor, progress).run()
        _put_in_place(work / "corpus", output, manifest)
    except UnfinishedError:
        raise
    except CorpusError:
        shutil.rmtree(work)
        raise
    return manifest


def _identity(files: Sequence[InputFile], settings: CorpusSettings) -> dict[str, Any]:
    """What decides whether work done before an interruption still counts."""
    tokenizer = Path(settings.tokenizer)
    return {
        "format": FORMAT_VERSION,
        "files": hashlib.sha256(repr(files).encode()).hexdigest(),
        "settings": asdict(replace(settings, fractions=dict(settings.fractions))),
        "tokenizer": tokenizer.stat().st_mtime_ns if tokenizer.is_file() else None,
    }


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise CorpusError(f"output {output} is a file and must be a folder that does not exist yet: choose another")
    if _is_taken(output) and not (output / MANIFEST_NAME).exists():
        raise CorpusError(f"output {output} is a folder with other things in it: choose one that does not exist yet")


def _is_taken(output: Path) -> bool:
    return output.is_dir() and any(output.iterdir())


def _put_in_place(folder: Path, output: Path, manifest: Manifest) -> None:
    """Renames a finished corpus; one that is there already must be the same."""
    if _is_taken(output):
        there = Manifest.read(output)
        if there.content_hash != manifest.content_hash:
            raise CorpusError(
                f"output {output} holds another corpus (content {there.content_hash[:16]}) and is never overwritten: "
                "choose another folder, or delete that one"
            )
        return
    folder.replace(output)
    descriptor = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
