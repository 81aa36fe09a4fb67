"""How good a document is: a number, higher is better. A scorer is one class with `@register_scorer`.

Which of them means quality is for the user to say. Compression ranks repetitive text low, and noise high; a small
language model ranks low what is unlike the rest of the corpus, as perplexity filters do (arXiv 1911.00359).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.errors import CorpusError

__all__ = ["SAMPLE_BYTES", "Scorer", "register_scorer", "scorer_class"]

SAMPLE_BYTES = 4 << 20

_REGISTRY: dict[str, type[Scorer]] = {}


class Scorer(ABC):
    """Scores documents by their text.

    Args:
        folder: what `prepare` was given.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod  # noqa: B027 - most need nothing
    def prepare(cls, folder: Path, sample: Callable[[int], list[bytes]]) -> None:
        """What is done once, before documents are scored, and kept in `folder`.

        Args:
            folder: of the preparation.
            sample: gives training documents drawn by their hash, up to so many bytes.
        """

    @abstractmethod
    def scores(self, texts: Sequence[bytes]) -> NDArray[np.float64]:
        """The score of each text, finite: a function of the text alone."""


def register_scorer(scorer: type[Scorer]) -> type[Scorer]:
    """Class decorator: enters a scorer under its name."""
    _REGISTRY[scorer.name] = scorer
    return scorer


def scorer_class(name: str) -> type[Scorer]:
    """The scorer of that name.

    Raises:
        CorpusError: there is none.
    """
    if name not in _REGISTRY:
        raise CorpusError(f"there is no scorer {name!r}: --quality is one of {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


@register_scorer
class _Compression(Scorer):
    """Compressed bytes a byte of text, by zlib."""

    name = "compression"

    def scores(self, texts: Sequence[bytes]) -> NDArray[np.float64]:
        return np.array([len(zlib.compress(text)) / len(text) for text in texts])


@register_scorer
class _LanguageModel(Scorer):
    """Bits per byte, negative, under a small model of bytes trained on a sample of the corpus."""

    name = "language_model"

    @classmethod
    def prepare(cls, folder: Path, sample: Callable[[int], list[bytes]]) -> None:
        from crossover.trainers.data.preparation.language_model import train_model

        path = folder / "language_model.safetensors"
        if not path.exists():
            train_model(sample(SAMPLE_BYTES), path)

    def scores(self, texts: Sequence[bytes]) -> NDArray[np.float64]:
        from crossover.trainers.data.preparation.language_model import bits_per_byte

        return -bits_per_byte(self._folder / "language_model.safetensors", texts)
