"""Batches, windows and exactly known models, on vocabularies so small that everything can be enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.data import Batch, Windows
from crossover.trainers.data.vocabulary import Vocabulary
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer

TINY = Vocabulary(num_text_tokens=2)  # predicts 0, 1 and the separator 2; reads begin 3 and mask 4 as well


def all_sequences(length: int) -> Tensor:
    """Every sequence of the tiny vocabulary [3 ** length, length]."""
    return torch.tensor(list(itertools.product(range(TINY.num_output_tokens), repeat=length)))


def windows_of(tokens_WL: Tensor, lengths: Sequence[int] | None = None) -> Windows:
    """Windows of these tokens; shorter where lengths say so."""
    num, length = tokens_WL.shape
    num_tokens_W = np.asarray([length] * num if lengths is None else lengths, dtype=np.int64)
    valid_WL = torch.arange(length) < torch.from_numpy(num_tokens_W)[:, None]
    return Windows(tokens_WL, valid_WL, num_tokens_W, num_tokens_W, np.arange(num, dtype=np.int64), "test")


def batch_of(tokens_BL: Tensor, lengths: Sequence[int] | None = None) -> Batch:
    """A batch of these tokens; shorter where lengths say so."""
    windows = windows_of(tokens_BL, lengths)
    return Batch(tokens_BL, windows.valid_WL, int(windows.num_tokens_W.sum()))


def tiny_transformer(
    seed: int = 0, vocabulary: Vocabulary = TINY, regularization: RegularizationConfig | None = None
) -> Transformer:
    """A transformer far from uniform."""
    config = ModelConfig(num_layers=2, width=16, num_heads=2, init_std=0.6)
    torch.manual_seed(seed)
    shape = shape_of(config, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    return Transformer(shape, regularization or RegularizationConfig())


class FromLogits:
    """What a model costs, by its logits, in the plainest way."""

    def logits(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def nats(self, h_ND: Tensor, tokens_N: Tensor) -> Tensor:
        return -self.logits(h_ND[: len(tokens_N)]).float().log_softmax(-1).gather(1, tokens_N[:, None])[:, 0]

    def nats_sum(self, h_ND: Tensor, tokens_N: Tensor, scale_N: Tensor | None = None) -> Tensor:
        nats_N = self.nats(h_ND, tokens_N)
        return (nats_N if scale_N is None else nats_N * scale_N).sum()


class ExactPosterior(FromLogits):
    """Answers with the true p(x_i | what is visible) under a joint table over all sequences of one length."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.training = False
        self.device = torch.device("cpu")
        self.sequences_SL = all_sequences(length)
        random = torch.Generator().manual_seed(seed)
        self.joint_S = torch.rand(len(self.sequences_SL), generator=random, dtype=torch.float64) ** 3
        self.joint_S /= self.joint_S.sum()
        self.seen: list[Tensor] = []

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def hidden(self, tokens_BL: Tensor, *, causal: bool, valid_BL: Tensor | None = None) -> Tensor:
        self.seen.append(tokens_BL)
        return torch.stack([self._conditionals(row, causal) for row in tokens_BL])

    def logits(self, h: Tensor) -> Tensor:
        return h.log()

    def nll(self, tokens_L: Tensor) -> float:
        """The exact -log p of a sequence."""
        return -float(self.joint_S[(self.sequences_SL == tokens_L).all(1)].log())

    def _conditionals(self, inputs_L: Tensor, causal: bool) -> Tensor:
        length = self.sequences_SL.shape[1]
        answers = torch.zeros(length, TINY.num_output_tokens, dtype=torch.float64)
        for place in range(length):
            known = {j: inputs_L[j + 1] for j in range(place)} if causal else _visible(inputs_L)
            weight_S = self.joint_S.clone()
            for j, token in known.items():
                weight_S = weight_S * (self.sequences_SL[:, j] == token)
            answers[place].index_add_(0, self.sequences_SL[:, place], weight_S)
            answers[place] /= answers[place].sum()
        return answers


class Uniform(FromLogits):
    """Gives every token the same probability and remembers what it read."""

    def __init__(self) -> None:
        self.training = False
        self.device = torch.device("cpu")
        self.seen: list[Tensor] = []

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def hidden(self, tokens_BL: Tensor, *, causal: bool, valid_BL: Tensor | None = None) -> Tensor:
        self.seen.append(tokens_BL)
        return torch.zeros(*tokens_BL.shape, TINY.num_output_tokens)

    def logits(self, h: Tensor) -> Tensor:
        return h


def _visible(inputs_L: Tensor) -> dict[int, Tensor]:
    return {j: token for j, token in enumerate(inputs_L) if token != TINY.mask}
