"""`prepare_corpus`: from text files to a corpus folder that is whole or absent.

Documents are stored in the order of their sha256, so neither names nor places of files change the corpus. Files are
read twice, once to hash and check them all before anything is written, once to write; a shard
and a document are all that is held in memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Manifest,
    Provenance,
    ShardFacts,
    SplitFacts,
    SplitName,
)
from crossover.trainers.data.shards import write_shards
from crossover.trainers.data.sources import Document, DocumentScan, ErrorPolicy, find_files, read_text, scan_documents
from crossover.trainers.data.splitting import DEFAULT_FRACTIONS, check_fractions, documents_sha256, split_documents
from crossover.trainers.errors import CorpusError

__all__ = ["CorpusSettings", "prepare_corpus", "prepare_files"]


def prepare_corpus(
    sources: Sequence[Path],
    output: Path,
    *,
    piece_tokens: int = 2048,
    errors: ErrorPolicy = "strict",
    fractions: Mapping[SplitName, float] = DEFAULT_FRACTIONS,
    shard_tokens: int = 1 << 26,
) -> Manifest:
    """Turns text files and folders of them into a corpus folder; every file is one document, every byte one token.

    Args:
        sources: files, and folders that are searched through; hidden names and caches in them are skipped.
        output: folder to make. One that holds the same corpus already is left as it is.
        piece_tokens: most tokens of a piece.
        errors: "strict" refuses a file that is no UTF-8 text, "replace" repairs and counts it.
        fractions: expected share of the documents of training, validation and test.
        shard_tokens: tokens after which a shard is closed.

    Raises:
        CorpusError: nothing to read, a file that is no text, a split left empty, or an output that is in the way.
            Nothing is left behind.
    """
    if not sources:
        raise CorpusError("no source was given: give text files, or folders of them")
    for source in sources:
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise CorpusError(f"output {output} lies inside source {source} and would be read too: put it elsewhere")
    settings = CorpusSettings(
        name=output.resolve().name,
        sources=tuple(str(source) for source in sources),
        piece_tokens=piece_tokens,
        errors=errors,
        fractions=fractions,
        shard_tokens=shard_tokens,
    )
    return prepare_files(find_files(sources), output, settings)


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is made, and what its manifest says of its source; see `prepare_corpus` for the fields."""

    name: str
    sources: tuple[str, ...]
    interpreter: str | None = None
    piece_tokens: int = 2048
    errors: ErrorPolicy = "strict"
    fractions: Mapping[SplitName, float] = field(default_factory=lambda: DEFAULT_FRACTIONS)
    shard_tokens: int = 1 << 26


def prepare_files(files: Sequence[Path], output: Path, settings: CorpusSettings) -> Manifest:
    """Like `prepare_corpus`, for files that were found already.

    Raises:
        CorpusError: see `prepare_corpus`.
    """
    _check_settings(settings)
    try:
        _check_output(output)
        scan = scan_documents(files, settings.errors)
        if not scan.documents:
            place = ", ".join(settings.sources)
            raise CorpusError(f"there is no text in {place} ({scan.num_files} files): give files with text")
        splits = split_documents(scan.documents, settings.fractions)
        if _is_taken(output):
            return _same_or_refused(output, splits, settings)
        return _write_beside_and_rename(output, scan, splits, settings)
    except OSError as error:
        raise CorpusError(
            f"corpus folder {output} cannot be written ({error.strerror}): choose another place "
            "(for an embedded corpus set CROSSOVER_CACHE to a folder that can be written)"
        ) from None


def _check_settings(settings: CorpusSettings) -> None:
    for name in ("piece_tokens", "shard_tokens"):
        if getattr(settings, name) < 1:
            raise CorpusError(f"{name} is {getattr(settings, name)} and must be at least 1")
    check_fractions(settings.fractions)


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise CorpusError(f"output {output} is a file and must be a folder that does not exist yet: choose another")
    if _is_taken(output) and not (output / MANIFEST_NAME).exists():
        raise CorpusError(f"output {output} is a folder with other things in it: choose one that does not exist yet")


def _is_taken(output: Path) -> bool:
    return output.is_dir() and any(output.iterdir())


def _same_or_refused(output: Path, splits: Mapping[SplitName, list[Document]], settings: CorpusSettings) -> Manifest:
    manifest = Manifest.read(output)
    same_documents = all(manifest.splits[split].documents_sha256 == documents_sha256(splits[split]) for split in SPLITS)
    if not same_documents or manifest.piece_tokens != settings.piece_tokens:
        raise CorpusError(
            f"output {output} holds another corpus (content {manifest.content_hash[:16]}) and is never overwritten: "
            "choose another folder, or delete that one"
        )
    return manifest


def _write_beside_and_rename(
    output: Path, scan: DocumentScan, splits: Mapping[SplitName, list[Document]], settings: CorpusSettings
) -> Manifest:
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        folder = Path(scratch, "corpus")
        folder.mkdir()
        manifest = _write_corpus(folder, scan, splits, settings)
        try:
            folder.replace(output)
        except OSError:
            if not _is_taken(output):
                raise
            return _same_or_refused(output, splits, settings)  # another process was first
    _sync_folder(output.parent)
    return manifest


def _write_corpus(
    folder: Path, scan: DocumentScan, splits: Mapping[SplitName, list[Document]], settings: CorpusSettings
) -> Manifest:
    shards: list[ShardFacts] = []
    facts: dict[SplitName, SplitFacts] = {}
    for split, documents in splits.items():
        lengths: list[int] = []
        tokens = _tokens_of(documents, settings.errors, lengths)
        shards += write_shards(folder, split, tokens, settings.piece_tokens, settings.shard_tokens)
        facts[split] = SplitFacts(
            num_documents=len(documents),
            num_pieces=sum(-(-length // settings.piece_tokens) for length in lengths),
            num_tokens=sum(lengths),
            num_bytes=sum(lengths),
            documents_sha256=documents_sha256(documents),
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        tokenizer="bytes",
        piece_tokens=settings.piece_tokens,
        split_fractions={split: settings.fractions[split] for split in SPLITS},
        splits=facts,
        shards=shards,
        provenance=_provenance(scan, settings),
    )
    with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as file:
        file.write(manifest.to_json())
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _provenance(scan: DocumentScan, settings: CorpusSettings) -> Provenance:
    return Provenance(
        name=settings.name,
        sources=list(settings.sources),
        interpreter=settings.interpreter,
        num_files=scan.num_files,
        num_empty=scan.num_empty,
        num_duplicates=scan.num_duplicates,
        num_files_replaced=scan.num_files_replaced,
        num_characters_replaced=scan.num_characters_replaced,
    )


def _tokens_of(documents: list[Document], errors: ErrorPolicy, lengths: list[int]) -> Iterator[NDArray[np.uint16]]:
    for document in documents:
        text, _ = read_text(document.path, errors)
        if hashlib.sha256(text).digest() != document.digest:
            raise CorpusError(f"{document.path} changed while the corpus was prepared: run it again when it is at rest")
        lengths.append(len(text))
        yield np.frombuffer(text, dtype=np.uint8).astype(np.uint16)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
