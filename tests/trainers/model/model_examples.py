"""Small models and tokens for them."""

from __future__ import annotations

import torch
from torch import Tensor

from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer

LENGTH = 9
VOCABULARY = 13


def make_model(seed: int = 0, regularization: RegularizationConfig | None = None, **config: object) -> Transformer:
    """A small model whose gains are not ones and whose weights are not small, so that no part of it is idle."""
    settings = {"num_layers": 2, "width": 32, "num_heads": 4, "init_std": 0.3, **config}
    shape = shape_of(ModelConfig.model_validate(settings), VOCABULARY + 2, VOCABULARY)
    torch.manual_seed(seed)
    model = Transformer(shape, regularization or RegularizationConfig())
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return model.eval()


def some_tokens(num: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randint(0, VOCABULARY, (num, length), generator=torch.Generator().manual_seed(1))
