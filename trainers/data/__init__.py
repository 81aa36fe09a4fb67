"""From text to tokens: corpora, the training subset of a budget, and held-out windows."""

from __future__ import annotations

from crossover.trainers.data.corpus import Corpus, open_corpus
from crossover.trainers.data.manifest import Manifest
from crossover.trainers.data.prepare import prepare_corpus
from crossover.trainers.data.subset import Batch, TrainingSubset
from crossover.trainers.data.vocabulary import Vocabulary
from crossover.trainers.data.windows import Windows, held_out_windows

__all__ = [
    "Batch",
    "Corpus",
    "Manifest",
    "TrainingSubset",
    "Vocabulary",
    "Windows",
    "held_out_windows",
    "open_corpus",
    "prepare_corpus",
]
