"""Memorization: can one tell from a model what it was trained on, and does it give training text back?

Two measures over as many training as held-out pieces, both cut in the same way from streams of documents, so that a
model that has seen neither tells them apart no better than chance:

- membership inference: the area under the curve (AUC) of the loss as a sign of membership, 0.5 where it says nothing
  (the loss attack of arXiv 1709.01604; error of Hanley and McNeil, 1982);
- reproduction: the share of pieces whose last tokens greedy generation gives back from those before (arXiv 2202.07646),
  and the same share of held-out pieces beside it, which is what text that is easy to guess gives without memory.

Shape suffixes: P pieces of each kind, L sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.data import Corpus, MixedCorpus, TrainingSubset, Windows
from crossover.trainers.data.permutation import KeyedPermutation
from crossover.trainers.errors import ConfigError
from crossover.trainers.generation.base import Generator
from crossover.trainers.objectives import LanguageModel, Objective
from crossover.trainers.tasks.likelihood import Continuation
from crossover.trainers.world import World

__all__ = ["SUFFIX_TOKENS", "Memorization", "MemorizationPieces", "auc", "measure_memorization", "memorization_pieces"]

SUFFIX_TOKENS = 16
_SPREAD = 16  # times the held-out text that is used is cut: pieces of many documents
_ALONE = World()


@dataclass(frozen=True)
class MemorizationPieces:
    """What is asked about.

    Args:
        training: sequences that are trained on.
        held_out: as many that are not, of the validation documents.
    """

    training: Windows
    held_out: Windows


@dataclass(frozen=True)
class Memorization:
    """What was found.

    Args:
        auc: chance that a training piece costs less than a held-out one; 0.5 says nothing.
        auc_se: its standard error; for a bound the noise of masks is in it.
        reproduced_fraction: share of training pieces whose last tokens are given back.
        reproduced_held_out_fraction: the same of held-out pieces.
    """

    auc: float
    auc_se: float
    reproduced_fraction: float
    reproduced_held_out_fraction: float


def memorization_pieces(
    corpus: Corpus | MixedCorpus, subset: TrainingSubset, num_pieces: int, seed: int
) -> MemorizationPieces:
    """Whole sequences, chosen by the evaluation seed: the same ones for every model of a subset.

    Raises:
        ConfigError: there are fewer, or sequences are too short to have a prefix.
    """
    length = subset.sequence_length
    if length < 2 * SUFFIX_TOKENS:
        raise ConfigError(
            f"evaluation.memorization_pieces is {num_pieces}, and sequences of {length} tokens are too short for it: "
            f"set data.sequence_length to {2 * SUFFIX_TOKENS} or more, or evaluation.memorization_pieces to 0"
        )
    held_out = _held_out_stream(corpus, length, num_pieces)
    whole = subset.whole_sequences
    if num_pieces > min(len(whole), len(held_out)):
        raise ConfigError(
            f"evaluation.memorization_pieces is {num_pieces}, and there are {len(whole)} whole training sequences and "
            f"{len(held_out)} of held-out text: set it to {min(len(whole), len(held_out))} or less"
        )
    chosen = whole[KeyedPermutation(len(whole), seed, "memorization")(np.arange(num_pieces))]
    others = KeyedPermutation(len(held_out), seed, "memorization", "held-out")(np.arange(num_pieces))
    return MemorizationPieces(_windows(subset.sequences(chosen)), _windows(held_out[others]))


def measure_memorization(
    model: LanguageModel,
    objective: Objective,
    generator: Generator,
    pieces: MemorizationPieces,
    *,
    num_masks: int,
    seed: int,
    world: World = _ALONE,
) -> Memorization:
    """Scores and continues every piece; workers share the scoring, and call this together."""
    costs = [
        _costs(model, objective, windows, num_masks, seed, world) for windows in (pieces.training, pieces.held_out)
    ]
    area, error = auc(*costs)
    reproduced = [_reproduced_fraction(generator, windows) for windows in (pieces.training, pieces.held_out)]
    return Memorization(area, error, *reproduced)


def auc(member_P: NDArray[np.float64], other_P: NDArray[np.float64]) -> tuple[float, float]:
    """Chance that a member costs less than another, ties half, and its standard error; NaN where a cost is.

    The area is the rank sum of Mann and Whitney; its error that of Hanley and McNeil (Radiology 143, 1982).
    """
    from scipy.stats import rankdata  # takes a second, of which every trial's start would bear one

    num, num_other = len(member_P), len(other_P)
    both = np.concatenate([member_P, other_P])
    if np.isnan(both).any():
        return math.nan, math.nan
    ranks = rankdata(-both)
    area = (ranks[:num].sum() - num * (num + 1) / 2) / (num * num_other)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (num - 1) * (q1 - area**2) + (num_other - 1) * (q2 - area**2)
    return float(area), math.sqrt(max(variance, 0.0) / (num * num_other))


def _costs(
    model: LanguageModel, objective: Objective, windows: Windows, num_masks: int, seed: int, world: World
) -> NDArray[np.float64]:
    nats_PM = objective.window_nats(
        model, windows, num_masks=num_masks, seed=seed, rank=world.rank, world_size=world.size
    ).nats_WM
    costs: NDArray[np.float64] = world.sum(torch.from_numpy(nats_PM)).numpy().mean(axis=1)
    return costs


def _reproduced_fraction(generator: Generator, windows: Windows) -> float:
    rows = windows.tokens_WL.tolist()
    found = generator.reproduces([Continuation(row[:-SUFFIX_TOKENS], row[-SUFFIX_TOKENS:]) for row in rows])
    return sum(found) / len(found)


def _held_out_stream(corpus: Corpus | MixedCorpus, length: int, num_pieces: int) -> NDArray[np.int64]:
    """Whole sequences of validation documents, cut from pieces and separators as training text is: [S, L]."""
    separator, wanted = np.array([corpus.vocabulary.separator]), _SPREAD * num_pieces * length
    found: list[NDArray[Any]] = []
    for part in corpus.parts:
        num_tokens, offsets = 0, part.corpus.split("validation").piece_offsets
        order = KeyedPermutation(len(offsets) - 1, 0, "pieces")(np.arange(len(offsets) - 1))
        for start, stop in zip(offsets[order].tolist(), offsets[order + 1].tolist(), strict=True):
            if num_tokens < wanted:
                found += [part.corpus.split("validation").read(start, stop), separator]
                num_tokens += stop - start + 1
    stream = np.concatenate(found).astype(np.int64)
    num = len(stream) // length
    return stream[: num * length].reshape(num, length)


def _windows(tokens_PL: NDArray[np.int64]) -> Windows:
    num, length = tokens_PL.shape
    num_tokens_P = np.full(num, length, dtype=np.int64)
    valid_PL = torch.ones(num, length, dtype=torch.bool)
    return Windows(torch.from_numpy(tokens_PL), valid_PL, num_tokens_P, num_tokens_P, np.arange(num), "")
