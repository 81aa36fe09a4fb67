"""Ensembles of trained models: several trials score as one, by the mean of their probabilities or of their logits.

K models of one recipe and K seeds are a way to spend compute where data has run out (arXiv 2509.14786). Here an
ensemble is a language model whose hidden states are those of its members side by side, so every objective scores it as
it scores one model: the exact likelihood of an autoregressive ensemble, the bound of a diffusion one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossover.trainers.data import Windows, held_out_windows, open_corpus
from crossover.trainers.errors import ConfigError
from crossover.trainers.evaluate import Paired, WindowScores, paired_bits_per_byte, score
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.trained import TrainedModel, open_model

__all__ = ["Averaging", "Ensemble", "EnsembleScores", "evaluate_ensemble", "open_members"]

Averaging = Literal["probabilities", "logits"]
Split = Literal["validation", "test"]

_ROWS = 4096  # whose logits are averaged at once


class Ensemble:
    """Several models that answer as one; what an objective asks of a model, but for training.

    Args:
        members: In evaluation mode, of one vocabulary, on one device; their widths may differ.
        averaging: Of probabilities, or of logits: the normalized geometric mean of probabilities.
    """

    training = False

    def __init__(self, members: Sequence[Transformer], averaging: Averaging) -> None:
        self.members = list(members)
        self.averaging = averaging

    @property
    def device(self) -> torch.device:
        """Where tokens are to be."""
        return self.members[0].device

    def hidden(self, tokens_BL: Tensor, **arguments: Any) -> Tensor:
        """Hidden states of all members, side by side in the last dimension."""
        return torch.cat([member.hidden(tokens_BL, **arguments) for member in self.members], dim=-1)

    def nats(self, h_ND: Tensor, tokens_N: Tensor) -> Tensor:
        """-log p of each token [N], float32."""
        parts = torch.split(h_ND, [member.shape.width for member in self.members], dim=1)
        if self.averaging == "probabilities":
            each = [-member.nats(part, tokens_N) for member, part in zip(self.members, parts, strict=True)]
            return math.log(len(each)) - torch.stack(each).logsumexp(0)
        chunks = [slice(start, start + _ROWS) for start in range(0, max(len(tokens_N), 1), _ROWS)]
        return torch.cat([self._nats_of_mean_logits([p[rows] for p in parts], tokens_N[rows]) for rows in chunks])

    def nats_sum(self, h_ND: Tensor, tokens_N: Tensor, scale_N: Tensor | None = None) -> Tensor:
        """Sum over tokens of scale times -log p."""
        nats_N = self.nats(h_ND, tokens_N)
        return (nats_N if scale_N is None else nats_N * scale_N).sum()

    def train(self, mode: bool = True) -> None:
        """Nothing: an ensemble is not trained."""
        assert not mode

    def _nats_of_mean_logits(self, parts: Sequence[Tensor], tokens_N: Tensor) -> Tensor:
        logits = [
            member.logits(part[: len(tokens_N)]).float() for member, part in zip(self.members, parts, strict=True)
        ]
        return functional.cross_entropy(torch.stack(logits).mean(0), tokens_N, reduction="none")


@dataclass(frozen=True)
class EnsembleScores:
    """What members and ensembles cost on the same windows.

    Attributes:
        members: Scores of each by itself.
        by_probabilities: Of the first K members together, K from 2 to all of them.
        by_logits: Of all members, their logits averaged.
        is_bound: Whether losses are an ELBO.
    """

    members: tuple[WindowScores, ...]
    by_probabilities: tuple[WindowScores, ...]
    by_logits: WindowScores
    is_bound: bool

    @cached_property
    def mean_member(self) -> WindowScores:
        """What a member costs on average, window by window."""
        nats_WK = np.stack([member.nats_W for member in self.members], axis=1)
        return replace(self.members[0], nats_W=nats_WK.mean(axis=1, dtype=np.float64).astype(np.float32))

    def gain(self, ensemble: WindowScores) -> Paired:
        """Bits per byte of an ensemble less those of a member on average, paired over windows."""
        return paired_bits_per_byte(ensemble, self.mean_member)


def open_members(paths: Sequence[Path]) -> list[TrainedModel]:
    """The trained models of several trials, checked to be of one data set and one kind before any is scored.

    Raises:
        ConfigError: they are fewer than two, or differ in what makes them comparable.
        RecordError: one of them is no trained model.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ConfigError(
            f"an ensemble has two members or more, each once, and {len(paths)} "
            f"{'was' if len(paths) == 1 else 'were'} named: name the folders of different trials"
        )
    members = [open_model(path) for path in paths]
    first = members[0]
    for other in members[1:]:
        for what, mine, others in _must_agree(first, other):
            if mine != others:
                raise ConfigError(
                    f"{first.name} and {other.name} are trials of different {what} ({mine} and {others}), and an "
                    "ensemble of them would answer no question: name trials that differ in seeds, settings or size "
                    "only (search.vary_data: false makes repeats of one subset)"
                )
    return members


def evaluate_ensemble(members: Sequence[TrainedModel], split: Split = "test") -> EnsembleScores:
    """Scores of members and of their ensembles, on the windows and with the masks of the first member's evaluation.

    Args:
        members: As `open_members` gives them.
        split: validation or test.

    Raises:
        CorpusError: their corpus is not to be had any more.
    """
    first = members[0]
    evaluation = first.config.evaluation
    is_test = split == "test"
    num_windows = evaluation.test_windows if is_test else evaluation.validation_windows
    num_masks = evaluation.test_masks_per_window if is_test else evaluation.masks_per_window
    corpus = open_corpus(first.config.data.corpus)
    windows = held_out_windows(corpus, split, first.context_tokens, num_windows, evaluation.seed)

    def scored(chosen: Sequence[TrainedModel], averaging: Averaging) -> WindowScores:
        ensemble = Ensemble([member.model for member in chosen], averaging)
        with first.runtime.autocast():
            return _scored(ensemble, first, windows, num_masks)

    return EnsembleScores(
        members=tuple(scored([member], "probabilities") for member in members),
        by_probabilities=tuple(scored(members[:k], "probabilities") for k in range(2, len(members) + 1)),
        by_logits=scored(members, "logits"),
        is_bound=first.objective.is_bound,
    )


def _scored(ensemble: Ensemble, first: TrainedModel, windows: Windows, num_masks: int) -> WindowScores:
    return score(ensemble, first.objective, windows, num_masks, first.config.evaluation.seed)


def _must_agree(first: TrainedModel, other: TrainedModel) -> list[tuple[str, object, object]]:
    def of(trained: TrainedModel) -> dict[str, object]:
        facts, config = trained.facts, trained.config
        return {
            "objectives": facts.objective,
            "corpora": facts.data_hash[:12],
            "data: their training subsets are not the same": facts.subset_hash[:12],
            "sequence lengths": config.data.sequence_length,
            "evaluation seeds": config.evaluation.seed,
        }

    mine, others = of(first), of(other)
    return [(what, mine[what], others[what]) for what in mine]
