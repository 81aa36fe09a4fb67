"""Published laws as files, one each: `muennighoff-2023` and so on; `crossover laws` lists them.

A file has the schema of a law file that `crossover fit --output` writes, with its source and what it was measured on.
Losses of two papers are on two corpora and tokenizers: they must not be compared with each other.
"""

from __future__ import annotations

from crossover.platform.analysis.published_laws.files import (
    LawFile,
    LawFileError,
    ThresholdLaw,
    is_threshold,
    published_names,
    read_law,
    read_threshold,
)

__all__ = ["LawFile", "LawFileError", "ThresholdLaw", "is_threshold", "published_names", "read_law", "read_threshold"]
