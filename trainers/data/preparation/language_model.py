"""The small language model that scores documents: 2 layers of width 64 on bytes, autoregressive, 90k parameters.

It is trained for 400 steps on a sample of the training split, and reads the first 512 bytes of a document. Batches
have one shape, so a document's score does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from crossover.trainers.model.transformer import Transformer

__all__ = ["bits_per_byte", "train_model"]

_LENGTH, _BATCH, _STEPS, _RATE = 128, 16, 400, 3e-3
_SCORED_BYTES = 512
_ROWS = 32


def train_model(sample: Sequence[bytes], path: Path) -> None:
    """Trains on the sample and writes the weights.

    Args:
        sample: documents.
        path: of the weights.
    """
    import torch
    from safetensors.torch import save_file

    from crossover.trainers.config import OptimizerConfig
    from crossover.trainers.data.vocabulary import BYTES
    from crossover.trainers.optim import build_optimizer, clip_gradients

    torch.manual_seed(0)
    model = _model().train()
    optimizer = build_optimizer(model, OptimizerConfig())
    separator = bytes([0])  # no text holds it
    stream = np.frombuffer(separator.join(sample) + separator * (_LENGTH + 1), np.uint8).astype(np.int64)
    stream[stream == 0] = BYTES.separator
    draw = np.random.default_rng(0)
    for step in range(_STEPS):
        starts = draw.integers(0, len(stream) - _LENGTH, _BATCH)
        tokens_BL = torch.from_numpy(stream[starts[:, None] + np.arange(_LENGTH)])
        loss = _nats(model, tokens_BL).sum() / tokens_BL.numel()
        torch.autograd.backward(loss)
        clip_gradients(model, 1.0)
        optimizer.step(_RATE * min(1.0, (step + 1) / 20) * (1 - step / _STEPS))
        optimizer.zero_grad()
    waiting = path.with_suffix(".tmp")
    save_file(model.state_dict(), waiting)
    waiting.replace(path)


def bits_per_byte(path: Path, texts: Sequence[bytes]) -> NDArray[np.float64]:
    """Of the first 512 bytes of each text, in windows of 128.

    Args:
        path: of the weights.
        texts: none empty.
    """
    import torch

    from crossover.trainers.data.vocabulary import BYTES

    model = _loaded(path)
    windows = [
        (number, text[start : start + _LENGTH])
        for number, text in enumerate(texts)
        for start in range(0, min(len(text), _SCORED_BYTES), _LENGTH)
    ]
    nats_D = np.zeros(len(texts))
    for begin in range(0, len(windows), _ROWS):
        some = windows[begin : begin + _ROWS]
        tokens_RL = np.full((_ROWS, _LENGTH), BYTES.separator, dtype=np.int64)
        for row, (_, text) in enumerate(some):
            tokens_RL[row, : len(text)] = np.frombuffer(text, np.uint8)
        with torch.no_grad():
            nats_RL = _nats(model, torch.from_numpy(tokens_RL)).double().numpy()
        for row, (number, text) in enumerate(some):
            nats_D[number] += nats_RL[row, : len(text)].sum()
    num_bytes_D = np.array([min(len(text), _SCORED_BYTES) for text in texts])
    bits: NDArray[np.float64] = nats_D / np.log(2) / num_bytes_D
    return bits


def _model() -> Transformer:
    from crossover.trainers.config import ModelConfig, RegularizationConfig
    from crossover.trainers.data.vocabulary import BYTES
    from crossover.trainers.model.shapes import shape_of
    from crossover.trainers.model.transformer import Transformer

    shape = shape_of(ModelConfig(num_layers=2, width=64), BYTES.num_input_tokens, BYTES.num_output_tokens)
    return Transformer(shape, RegularizationConfig())


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Transformer:
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)  # a worker of several has one core
    model = _model()
    model.load_state_dict(load_file(path))
    return model.eval()


def _nats(model: Transformer, tokens_BL: torch.Tensor) -> torch.Tensor:
    """Nats of each token, given those before it in its row [B, L]."""
    from crossover.trainers.data.vocabulary import BYTES

    inputs_BL = tokens_BL.roll(1, dims=1)
    inputs_BL[:, 0] = BYTES.begin
    hidden_BLD = model.hidden(inputs_BL, causal=True)
    return model.nats(hidden_BLD.flatten(0, 1), tokens_BL.flatten()).view(tokens_BL.shape)
