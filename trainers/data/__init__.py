"""From text to tokens: corpora, the training subset of a budget, and held-out windows.

Names that need torch are loaded when they are first asked for, so that a corpus is prepared and looked at without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossover.trainers.data.corpus import Corpus, open_corpus
from crossover.trainers.data.manifest import Manifest
from crossover.trainers.data.mixed import MixedCorpus
from crossover.trainers.data.prepare import prepare_corpus
from crossover.trainers.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from crossover.trainers.data.subset import Batch, TrainingSubset, check_budget
    from crossover.trainers.data.windows import Windows, held_out_windows

__all__ = [
    "Batch",
    "Corpus",
    "Manifest",
    "MixedCorpus",
    "TrainingSubset",
    "Vocabulary",
    "Windows",
    "check_budget",
    "held_out_windows",
    "open_corpus",
    "prepare_corpus",
]

_WITH_TORCH = {
    "Batch": "subset",
    "TrainingSubset": "subset",
    "check_budget": "subset",
    "Windows": "windows",
    "held_out_windows": "windows",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
