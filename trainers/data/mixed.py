"""`MixedCorpus`: several corpora read as one. Every corpus has parts; a plain one has itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from crossover.trainers.data.corpus import CorpusPart
from crossover.trainers.data.tokenizers import Tokenizer
from crossover.trainers.data.vocabulary import Vocabulary
from crossover.trainers.errors import CorpusError
from crossover.trainers.mixture import MixturePart, unique_tokens_of

__all__ = ["MixedCorpus"]


class MixedCorpus:
    """A mixture.

    Args:
        parts: its corpora.

    Raises:
        CorpusError: they have different tokens.
    """

    def __init__(self, parts: Sequence[CorpusPart]) -> None:
        self.parts = tuple(parts)
        first = parts[0].corpus
        for part in parts[1:]:
            if part.corpus.manifest.tokenizer_sha256 != first.manifest.tokenizer_sha256:
                raise CorpusError(
                    f"corpora {first.name} ({first.manifest.tokenizer}) and {part.corpus.name} "
                    f"({part.corpus.manifest.tokenizer}) have different tokens and cannot be mixed: prepare one "
                    "again with --tokenizer and the other's tokenizer.json"
                )

    @property
    def name(self) -> str:
        """As `data.corpus` writes it."""
        return self._text([part.corpus.name for part in self.parts])

    @property
    def location(self) -> str:
        """As a worker in any folder finds it."""
        return self._text([part.corpus.location for part in self.parts])

    @property
    def vocabulary(self) -> Vocabulary:
        """The token ids, the same in all parts."""
        return self.parts[0].corpus.vocabulary

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to tokens and back, the same in all parts."""
        return self.parts[0].corpus.tokenizer

    @property
    def content_hash(self) -> str:
        """Identity of the contents and of how they are mixed."""
        return hashlib.sha256(self._text([part.corpus.content_hash for part in self.parts]).encode()).hexdigest()

    def num_training_tokens(self, tier: str | None = None) -> int:
        """The largest budget of unique tokens: where the first corpus runs out.

        Raises:
            CorpusError: a corpus has no such tier.
        """
        settings = [self._setting(part, part.corpus.name) for part in self.parts]
        needs = [part.weight / part.repeats for part in self.parts]
        most = min(
            int(part.corpus.num_training_tokens(tier) * sum(needs) / need)
            for part, need in zip(self.parts, needs, strict=True)
        )
        while any(  # rounding may take a token more than there is
            share > part.corpus.num_training_tokens(tier)
            for share, part in zip(unique_tokens_of(settings, most), self.parts, strict=True)
        ):
            most -= 1
        return most

    def _text(self, names: Sequence[str]) -> str:
        return " + ".join(str(self._setting(part, name)) for part, name in zip(self.parts, names, strict=True))

    @staticmethod
    def _setting(part: CorpusPart, name: str) -> MixturePart:
        return MixturePart(name, part.weight, part.repeats)
