"""Log-likelihoods of continuations given their contexts, for every objective.

Continuations are scored in the order of their lengths, so that little is padding; what they cost comes back in the
order in which they were given. A bound is estimated with exact-k masks over the continuation alone (arXiv 2502.09992,
appendix B.5), which for a single token are all the same: one pass is exact.

Shape suffixes: O continuations, W windows of one pass, L sequence, M masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from crossover.trainers.data import Vocabulary, Windows
from crossover.trainers.evaluate import within_windows
from crossover.trainers.objectives import LanguageModel, Objective, WindowNats
from crossover.trainers.world import World

__all__ = ["Continuation", "ContinuationNats", "continuation_nats"]

_LENGTH_STEP = 8  # lengths are rounded up to it: few shapes, and so few kernels
_CHUNK_TOKENS = 1 << 15
_ALONE = World()


@dataclass(frozen=True)
class Continuation:
    """What follows a context.

    Args:
        context: token ids that are read; may be none.
        tokens: token ids that are scored, one or more.
    """

    context: Sequence[int]
    tokens: Sequence[int]

    def __len__(self) -> int:
        """Tokens of both."""
        return len(self.context) + len(self.tokens)


@dataclass(frozen=True)
class ContinuationNats:
    """What continuations cost.

    Args:
        nats_O: -log p, or its upper bound (ELBO), float64.
        se_O: Monte-Carlo error of each, 0 where it is exact. It is that of as many independent masks; ours are
            stratified, so it is rather too large.
        num_passes: sequences that went through the model.
    """

    nats_O: NDArray[np.float64]
    se_O: NDArray[np.float64]
    num_passes: int


def continuation_nats(
    model: LanguageModel,
    objective: Objective,
    continuations: Sequence[Continuation],
    vocabulary: Vocabulary,
    *,
    num_masks: int,
    seed: int,
    world: World = _ALONE,
) -> ContinuationNats:
    """Scores continuations, in evaluation mode and without gradient.

    Several workers share them, call this together, and each gets all.

    Args:
        model: any model.
        objective: how it is scored.
        continuations: what is scored; none may be longer than what the model was trained on.
        vocabulary: its token ids.
        num_masks: Monte-Carlo masks a continuation of several tokens, for bounds; at least 2.
        seed: of the masks; the same ones for every model.
        world: the workers.
    """
    nats_O, se_O, num_passes = np.zeros(len(continuations)), np.zeros(len(continuations)), 0
    for number, (chosen, masks) in enumerate(_chunks(continuations, num_masks)):
        windows, given_W = _windows([continuations[place] for place in chosen], vocabulary)
        scored = objective.window_nats(
            model,
            windows,
            num_masks=masks,
            seed=seed + number,
            batch_size=max(1, _CHUNK_TOKENS // windows.tokens_WL.shape[1] // 4),
            rank=world.rank,
            world_size=world.size,
            given_W=given_W,
        )
        nats_WM = world.sum(torch.from_numpy(scored.nats_WM)).numpy()
        nats_O[chosen] = nats_WM.mean(axis=1)
        if nats_WM.shape[1] > 1:
            se_O[chosen] = _errors(replace(scored, nats_WM=nats_WM))
        num_passes += nats_WM.size
    return ContinuationNats(nats_O, se_O, num_passes)


def _chunks(continuations: Sequence[Continuation], num_masks: int) -> list[tuple[list[int], int]]:
    """Places of continuations that are scored together, the longest first, and their number of masks."""
    found: list[tuple[list[int], int]] = []
    for is_single, masks in ((False, num_masks), (True, 1)):
        places = [place for place, one in enumerate(continuations) if (len(one.tokens) == 1) == is_single]
        places.sort(key=lambda place: -len(continuations[place]))
        while places:
            num = max(1, _CHUNK_TOKENS // _rounded(len(continuations[places[0]])))
            found.append((places[:num], masks))
            places = places[num:]
    return found


def _windows(continuations: Sequence[Continuation], vocabulary: Vocabulary) -> tuple[Windows, NDArray[np.int64]]:
    length = _rounded(max(map(len, continuations)))
    num_tokens_W = np.array([len(one) for one in continuations], dtype=np.int64)
    tokens_WL = np.full((len(continuations), length), vocabulary.separator, dtype=np.int64)
    for row_L, one in zip(tokens_WL, continuations, strict=True):
        row_L[: len(one)] = [*one.context, *one.tokens]
    valid_WL = torch.arange(length) < torch.from_numpy(num_tokens_W)[:, None]
    numbers = np.arange(len(continuations), dtype=np.int64)
    windows = Windows(torch.from_numpy(tokens_WL), valid_WL, num_tokens_W, num_tokens_W, numbers, "")
    return windows, np.array([len(one.context) for one in continuations], dtype=np.int64)


def _errors(scored: WindowNats) -> NDArray[np.float64]:
    noise_WM = within_windows(scored.changed_by_masks, scored.weights)
    num_masks = noise_WM.shape[1]
    return np.asarray(np.sqrt((noise_WM**2).sum(axis=1) / (num_masks * (num_masks - 1))))


def _rounded(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP
