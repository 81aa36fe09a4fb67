"""Which split a document belongs to: drawn from its own sha256, so a document that is added moves no other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from crossover.trainers.data.manifest import SPLITS, SplitName
from crossover.trainers.data.sources import Document
from crossover.trainers.errors import CorpusError

__all__ = ["DEFAULT_FRACTIONS", "check_fractions", "documents_sha256", "split_documents"]

DEFAULT_FRACTIONS: Mapping[SplitName, float] = {"training": 0.90, "validation": 0.05, "test": 0.05}


def check_fractions(fractions: Mapping[SplitName, float]) -> None:
    """Refuses fractions that are no shares of one whole.

    Raises:
        CorpusError: a split is missing, unknown or not positive, or they do not sum to 1.
    """
    if set(fractions) != set(SPLITS) or min(fractions.values()) <= 0 or not math.isclose(sum(fractions.values()), 1):
        raise CorpusError(f"split fractions {dict(fractions)} must be positive for {', '.join(SPLITS)}, and sum to 1")


def split_documents(
    documents: Sequence[Document], fractions: Mapping[SplitName, float]
) -> dict[SplitName, list[Document]]:
    """The documents of each split, in the order of their sha256.

    Raises:
        CorpusError: a split came out empty.
    """
    splits: dict[SplitName, list[Document]] = {split: [] for split in SPLITS}
    bounds = np.cumsum([fractions[split] for split in SPLITS])[:-1]
    for document in sorted(documents, key=lambda document: document.digest):
        place = int.from_bytes(document.digest[:6], "big") / (1 << 48)
        splits[SPLITS[int(np.searchsorted(bounds, place, side="right"))]].append(document)
    for split, members in splits.items():
        if not members:
            raise CorpusError(
                f"the {split} split is empty: each file is one document, and none of the {len(documents)} distinct "
                f"documents fell into its {fractions[split]:.0%}. Give more documents (100 or so at least), for "
                "instance by cutting large files into several"
            )
    return splits


def documents_sha256(documents: Sequence[Document]) -> str:
    """sha256 over the sha256 of each document."""
    return hashlib.sha256(b"".join(document.digest for document in documents)).hexdigest()
