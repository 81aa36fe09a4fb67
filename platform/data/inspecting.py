"""`crossover data inspect`: what a corpus holds, as tables or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from crossover.platform.analysis.wording import amount
from crossover.trainers.data.corpus import Corpus
from crossover.trainers.data.manifest import SPLITS
from crossover.trainers.data.permutation import KeyedPermutation

__all__ = ["Inspection", "inspect_corpus", "print_inspection"]

_SHOWN_TOKENS = 400
_SHOWN_CHARACTERS = 160
_BAR = 40


@dataclass(frozen=True)
class Inspection:
    """What a corpus holds.

    Args:
        splits: counts of each split.
        lengths: documents of each split by length: upper bound in tokens, a power of two -> documents.
        budgets: largest number of unique tokens, of all text and of each tier.
        left_out: what was not taken, and how many.
        examples: beginnings of documents of each split, drawn by a fixed seed.
    """

    name: str
    folder: str
    content_hash: str
    tokenizer: str
    num_text_tokens: int
    num_output_tokens: int
    splits: dict[str, dict[str, float]]
    lengths: dict[str, dict[int, int]]
    budgets: dict[str, int]
    left_out: dict[str, int]
    files: dict[str, str]
    sources: list[str]
    examples: dict[str, list[str]]

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def inspect_corpus(corpus: Corpus, num_examples: int) -> Inspection:
    """Looks at a corpus.

    Args:
        corpus: opened.
        num_examples: documents of each split to show.
    """
    manifest, origin = corpus.manifest, corpus.manifest.provenance
    tiers = [] if manifest.quality is None else manifest.quality.tiers
    return Inspection(
        name=origin.name,
        folder=str(corpus.folder),
        content_hash=manifest.content_hash,
        tokenizer=manifest.tokenizer,
        num_text_tokens=manifest.num_text_tokens,
        num_output_tokens=corpus.vocabulary.num_output_tokens,
        splits={
            split: {
                "documents": facts.num_documents,
                "pieces": facts.num_pieces,
                "tokens": facts.num_tokens,
                "bytes": facts.num_bytes,
                "bytes_per_token": facts.num_bytes / facts.num_tokens,
            }
            for split, facts in manifest.splits.items()
        },
        lengths={split: _histogram(np.diff(corpus.split(split).document_offsets)) for split in SPLITS},
        budgets={"all": corpus.num_training_tokens()} | {tier.name: tier.num_tokens for tier in tiers},
        left_out={
            "duplicates": origin.num_duplicates,
            "near_duplicates": origin.num_near_duplicates,
            "empty": origin.num_empty,
            "skipped": origin.num_skipped,
        },
        files={name: sha256 for name, (_, sha256) in manifest.files.items()},
        sources=origin.sources,
        examples={split: _examples(corpus, split, num_examples) for split in SPLITS},
    )


def _histogram(length_D: np.ndarray) -> dict[int, int]:
    """Documents by length, up to each power of two."""
    bins_D = np.ceil(np.log2(np.maximum(length_D, 1))).astype(int)
    counts = np.bincount(bins_D)
    first = int(np.flatnonzero(counts)[0])
    return {2**place: int(count) for place, count in enumerate(counts) if place >= first}


def _examples(corpus: Corpus, split: str, count: int) -> list[str]:
    tokens = corpus.split(split)  # type: ignore[arg-type]
    order = KeyedPermutation(tokens.num_documents, 0, "examples", split)
    numbers = order(np.arange(min(count, tokens.num_documents))).tolist()
    return [
        corpus.tokenizer.decode(tokens.document(number)[:_SHOWN_TOKENS]).decode(errors="replace")[:_SHOWN_CHARACTERS]
        for number in numbers
    ]


def print_inspection(found: Inspection, console: Console | None = None) -> None:
    """Prints it for a person."""
    console = console or Console(highlight=False)
    console.print(f"corpus {found.name} in {found.folder}", markup=False, soft_wrap=True)
    console.print(f"content {found.content_hash}", markup=False, soft_wrap=True)
    console.print(
        f"tokenizer {found.tokenizer}: {found.num_text_tokens:,} text tokens, {found.num_output_tokens:,} outputs",
        markup=False,
    )
    table = Table("split", box=None, pad_edge=False)
    for name in found.splits["training"]:
        table.add_column(name.replace("_", " "), justify="right")
    for split, counts in found.splits.items():
        shown = (f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for value in counts.values())
        table.add_row(split, *shown)
    console.print(table)
    left_out = ", ".join(f"{count:,} {name.replace('_', '-')}" for name, count in found.left_out.items())
    console.print(f"left out: {left_out}", markup=False, soft_wrap=True)
    budgets = ", ".join(f"{name} {tokens:,}" for name, tokens in found.budgets.items())
    console.print(f"largest data.unique_tokens: {budgets}", markup=False, soft_wrap=True)
    for split, lengths in found.lengths.items():
        console.print(f"\nlength of {split} documents, in tokens", markup=False, soft_wrap=True)
        most = max(lengths.values())
        for bound, count in lengths.items():
            console.print(
                f"  <= {amount(bound):>6} {'#' * round(_BAR * count / most)} {count:,}", markup=False, soft_wrap=True
            )
    for split, texts in found.examples.items():
        for text in texts:
            console.print(f"\n{split}: {text!r}", markup=False, soft_wrap=True)
    console.print(f"\n{len(found.files):,} files, sha256:", markup=False, soft_wrap=True)
    for name, sha256 in found.files.items():
        console.print(f"  {sha256}  {name}", markup=False, soft_wrap=True)
