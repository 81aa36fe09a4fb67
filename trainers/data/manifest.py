"""`Manifest`: what a corpus folder holds, where it came from, and the hash by which trials know it.

It holds no time and no machine, so the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crossover.trainers.config import describe_validation_error
from crossover.trainers.errors import CorpusError

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "SPLITS",
    "Manifest",
    "Provenance",
    "QualityFacts",
    "ShardFacts",
    "SplitFacts",
    "SplitName",
    "TierFacts",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"

SplitName = Literal["training", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("training", "validation", "test")


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitFacts(_Facts):
    """One split, counted."""

    num_documents: int = Field(gt=0, description="Documents.")
    num_pieces: int = Field(gt=0, description="Pieces that the documents were cut into.")
    num_tokens: int = Field(gt=0, description="Tokens of text, separators not counted.")
    num_bytes: int = Field(gt=0, description="Bytes of text.")
    documents_sha256: str = Field(description="sha256 over the sha256 of each document, in the order they are stored.")


class ShardFacts(_Facts):
    """One Arrow file."""

    file: str = Field(pattern=r"^[\w-]+\.arrow$", description="File name inside the corpus folder.")
    split: SplitName
    file_bytes: int = Field(gt=0, description="Size of the file.")
    sha256: str = Field(description="sha256 of the file.")


class Provenance(_Facts):
    """Where the text came from; no part of the content hash."""

    name: str = Field(description="What the corpus is called.")
    sources: list[str] = Field(description="Files and folders as they were given.")
    interpreter: str | None = Field(default=None, description="Interpreter whose library this is; null: none.")
    num_files: int = Field(description="Files read.")
    num_empty: int = Field(description="Documents without a byte, left out.")
    num_duplicates: int = Field(description="Documents whose text was there already, left out.")
    near_duplicate_threshold: float | None = Field(
        default=None, description="Estimated Jaccard similarity from which documents are near; null: none was sought."
    )
    num_near_duplicates: int = Field(default=0, description="Training documents near a held-out one, left out.")
    num_near_duplicate_bytes: int = Field(default=0, description="Bytes of text of those.")
    num_skipped: int = Field(default=0, description="Documents that could not be read, left out (errors=skip).")
    first_skipped: str | None = Field(default=None, description="The first of those, and why.")
    num_files_replaced: int = Field(description="Documents that had to be repaired (errors=replace).")
    num_characters_replaced: int = Field(description="Undecodable sequences and NUL characters replaced in them.")


class TierFacts(_Facts):
    """One tier of quality of the training split."""

    name: str = Field(description="What `data.tier` calls it.")
    num_documents: int
    num_tokens: int = Field(gt=0, description="Tokens, one separator a piece counted: its largest budget.")
    lowest: float = Field(description="Score of its worst document.")
    highest: float = Field(description="Score of its best document.")


class QualityFacts(_Facts):
    """How good each training document is."""

    scorer: str = Field(description="column NAME, or a scorer: the higher its number, the better.")
    file: str = Field(pattern=r"^[\w-]+\.arrow$", description="Score and tier of each training document.")
    file_bytes: int = Field(gt=0)
    sha256: str = Field(description="sha256 of the file.")
    tiers: list[TierFacts] = Field(description="From the worst to the best, of equal tokens.")


class Manifest(_Facts):
    """What a corpus folder holds."""

    format_version: int = Field(description="Version of this layout.")
    tokenizer: str = Field(description="How text became tokens: bytes, bpe:VOCABULARY or tokenizer.json.")
    tokenizer_sha256: str | None = Field(default=None, description="sha256 of tokenizer.json; null: bytes.")
    num_text_tokens: int = Field(default=256, gt=0, description="Ids of text; separator, begin and mask follow.")
    piece_tokens: int = Field(gt=0, description="Most tokens of a piece.")
    split_fractions: dict[SplitName, float] = Field(description="Expected share of the documents of each split.")
    splits: dict[SplitName, SplitFacts]
    shards: list[ShardFacts]
    quality: QualityFacts | None = Field(default=None, description="Tiers of quality; null: there are none.")
    provenance: Provenance

    @model_validator(mode="after")
    def _each_split_has_facts_and_shards(self) -> Self:
        for split in SPLITS:
            if split not in self.splits or not any(shard.split == split for shard in self.shards):
                raise ValueError(f"the {split} split is missing")
        return self

    @model_validator(mode="after")
    def _only_bytes_need_no_tokenizer(self) -> Self:
        if (self.tokenizer == "bytes") != (self.tokenizer_sha256 is None):
            raise ValueError(f"tokenizer {self.tokenizer!r} needs tokenizer_sha256, and 'bytes' has none")
        return self

    @property
    def content_hash(self) -> str:
        """Identity of the content: sha256 of all that determines tokens and splits; no path, no time, no file."""
        content: dict[str, object] = {
            "tokenizer": self.tokenizer_sha256 or self.tokenizer,
            "piece_tokens": self.piece_tokens,
            "splits": {name: facts.documents_sha256 for name, facts in self.splits.items()},
        }
        if self.quality is not None:
            content["quality"] = self.quality.sha256
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def files(self) -> dict[str, tuple[int | None, str]]:
        """Every file of the folder but the manifest: bytes (None: not known) and sha256, by name."""
        files: dict[str, tuple[int | None, str]] = {one.file: (one.file_bytes, one.sha256) for one in self.shards}
        if self.quality is not None:
            files[self.quality.file] = self.quality.file_bytes, self.quality.sha256
        if self.tokenizer_sha256 is not None:
            files["tokenizer.json"] = None, self.tokenizer_sha256
        return files

    def summary(self) -> str:
        """What a person wants to see once a corpus is prepared: counts of each split, what was left out, the hash."""
        lines = [
            f"{name}: {facts.num_documents:,} documents, {facts.num_tokens:,} tokens, {facts.num_bytes:,} bytes"
            for name, facts in self.splits.items()
        ]
        origin = self.provenance
        lines.append(f"left out: {', '.join(_left_out(origin))}")
        if origin.num_files_replaced:
            lines.append(
                f"repaired: {origin.num_characters_replaced:,} characters in {origin.num_files_replaced:,} documents"
            )
        if self.quality is not None:
            tiers = ", ".join(f"{tier.name} {tier.num_tokens:,}" for tier in self.quality.tiers)
            lines.append(f"tiers by {self.quality.scorer}, in tokens: {tiers}")
        head = f"corpus {origin.name}, content {self.content_hash[:16]}"
        if self.tokenizer != "bytes":
            head += f", tokenizer {self.tokenizer} ({self.num_text_tokens:,} text tokens)"
        return "\n".join([head, *lines])

    def to_json(self) -> str:
        """The text of manifest.json."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a corpus folder.

        Raises:
            CorpusError: it is missing, unreadable, of another format version or no manifest.
        """
        path = folder / MANIFEST_NAME
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise CorpusError(f"{path} cannot be read ({error}): {_REMEDY}") from None

    @classmethod
    def parse(cls, raw: bytes, path: str) -> Manifest:
        """The manifest that these bytes are.

        Args:
            raw: of the file.
            path: how messages call it.

        Raises:
            CorpusError: they are of another format version or no manifest.
        """
        try:
            content = json.loads(raw)
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path} cannot be read ({error}): {_REMEDY}") from None
        except ValueError as error:
            raise CorpusError(f"{path} is damaged, not JSON ({error}): {_REMEDY}") from None
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise CorpusError(f"{path} has format_version {version!r}, this program reads {FORMAT_VERSION}: {_REMEDY}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise CorpusError(f"{path} is damaged ({describe_validation_error(error)}): {_REMEDY}") from None


def _left_out(origin: Provenance) -> Iterator[str]:
    yield f"{origin.num_duplicates:,} duplicates"
    if origin.near_duplicate_threshold is not None:
        yield (
            f"{origin.num_near_duplicates:,} training documents near a held-out one "
            f"({origin.num_near_duplicate_bytes:,} bytes)"
        )
    yield f"{origin.num_empty:,} empty"
    if origin.num_skipped:
        yield f"{origin.num_skipped:,} that could not be read (the first: {origin.first_skipped})"


_REMEDY = "delete the folder and prepare the corpus again"
