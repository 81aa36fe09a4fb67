"""Which split a document belongs to: drawn from its own sha256, so a document that is added moves no other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from crossover.trainers.data.manifest import SPLITS, SplitName
from crossover.trainers.errors import CorpusError

__all__ = ["DEFAULT_FRACTIONS", "check_fractions", "refuse_empty_split", "split_ranges"]

DEFAULT_FRACTIONS: Mapping[SplitName, float] = {"training": 0.90, "validation": 0.05, "test": 0.05}


def check_fractions(fractions: Mapping[SplitName, float]) -> None:
    """Refuses fractions that are no shares of one whole.

    Raises:
        CorpusError: a split is missing, unknown or not positive, or they do not sum to 1.
    """
    if set(fractions) != set(SPLITS) or min(fractions.values()) <= 0 or not math.isclose(sum(fractions.values()), 1):
        raise CorpusError(f"split fractions {dict(fractions)} must be positive for {', '.join(SPLITS)}, and sum to 1")


def split_ranges(fractions: Mapping[SplitName, float]) -> dict[SplitName, tuple[int, int]]:
    """The keys of each split, first and one after the last; a key is the first 48 bits of a document's sha256."""
    bounds = np.cumsum([fractions[split] for split in SPLITS])[:-1].tolist()
    edges = [0, *(math.ceil(bound * (1 << 48)) for bound in bounds), 1 << 48]
    return {split: (edges[place], edges[place + 1]) for place, split in enumerate(SPLITS)}


def refuse_empty_split(split: SplitName, num_documents: int, fractions: Mapping[SplitName, float]) -> NoReturn:
    """Says that there are too few documents.

    Raises:
        CorpusError: always.
    """
    raise CorpusError(
        f"the {split} split is empty: a file of text, a line or a row is one document, and none of the {num_documents} "
        f"distinct documents is in its {fractions[split]:.0%}. Give more documents (100 or so at least), for "
        "instance by cutting large files into several"
    )
