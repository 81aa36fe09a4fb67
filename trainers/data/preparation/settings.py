"""`CorpusSettings`: how a corpus is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crossover.trainers.data.manifest import SplitName
from crossover.trainers.data.preparation.quality import scorer_class
from crossover.trainers.data.preparation.readers import Columns
from crossover.trainers.data.sources import ErrorPolicy
from crossover.trainers.data.splitting import DEFAULT_FRACTIONS, check_fractions
from crossover.trainers.errors import CorpusError

__all__ = ["CorpusSettings"]


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is made, and what its manifest says of its source.

    Args:
        name: what the corpus is called.
        sources: as they were given.
        interpreter: whose library this is; None: no library.
        columns: what is read of files with columns.
        errors: "strict" refuses what is no text, "replace" repairs it, "skip" leaves it out; both count it.
        fractions: expected share of the documents of training, validation and test.
        tokenizer: bytes, bpe:VOCABULARY (trained on 64 MB of the corpus), or the path of a tokenizer.json.
        piece_tokens: most tokens of a piece.
        shard_bytes: expected text of a shard; memory is bounded by it.
        near_duplicates: estimated Jaccard similarity from which a training document near a held-out one is dropped;
            None: none is.
        quality: name of a scorer; None: none, or the quality column.
        tiers: number of tiers, where there is quality.
    """

    name: str
    sources: tuple[str, ...]
    interpreter: str | None = None
    columns: Columns = field(default_factory=Columns)
    errors: ErrorPolicy = "strict"
    fractions: Mapping[SplitName, float] = field(default_factory=lambda: DEFAULT_FRACTIONS)
    tokenizer: str = "bytes"
    piece_tokens: int = 2048
    shard_bytes: int = 1 << 24
    near_duplicates: float | None = 0.8
    quality: str | None = None
    tiers: int = 3

    @property
    def quality_label(self) -> str | None:
        """What tiers are made of, in words; None: there are no tiers."""
        return f"column {self.columns.quality}" if self.columns.quality else self.quality

    def check(self) -> None:
        """Refuses settings that make no corpus.

        Raises:
            CorpusError: which, its value and the rule.
        """
        for name, least in (("piece_tokens", 1), ("shard_bytes", 1), ("tiers", 2)):
            if getattr(self, name) < least:
                raise CorpusError(f"{name} is {getattr(self, name)} and must be at least {least}")
        check_fractions(self.fractions)
        if self.near_duplicates is not None and not 0.5 <= self.near_duplicates <= 1:
            raise CorpusError(f"near_duplicates is {self.near_duplicates} and must be 0.5 to 1, or off")
        if self.quality is not None:
            scorer_class(self.quality)
            if self.columns.quality is not None:
                raise CorpusError(
                    f"a quality column ({self.columns.quality}) and a scorer ({self.quality}) are both set: set one"
                )
        prefix, _, size = self.tokenizer.partition(":")
        if prefix == "bpe" and not (size.isdecimal() and 257 <= int(size) <= 1 << 24):
            raise CorpusError(f"tokenizer {self.tokenizer!r}: write bpe: and the text tokens wanted, as bpe:8192")
