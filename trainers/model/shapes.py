"""A model's shape from what the user meant by it: torch-free, so that a dry run needs no torch.

`size` counts parameters in matrix products, output head in, input table out: the N of 6ND. The nearest shape of one
ladder answers it: widths are multiples of 32, depth grows as 0.42 sqrt(width), rounded down or up, which passes through
96 x 4, 512 x 10, 768 x 12 (GPT-2) and 4096 x 27 (Llama: 32). With 257 output tokens two shapes in a row are at most a
factor of 3.3 apart, and 1.5 above 0.46M parameters: a run records the count of its shape, not the size asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossover.trainers.errors import ConfigError

if TYPE_CHECKING:
    from crossover.trainers.config import ModelConfig

__all__ = ["ModelShape", "ladder", "parse_size", "shape_of"]

_STEP = 32  # widths and MLP widths are multiples of it: whole tiles of AMX and tensor cores
_MAX_WIDTH = 16_384
_DEPTH = 0.42
_WIDE = 512  # from here on heads of 64, below it heads of 32, as in the ladder of arXiv 2507.15857
_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class ModelShape:
    """All that a transformer's shape consists of; counts are computed from it."""

    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int
    num_input_tokens: int
    num_output_tokens: int
    tie_embeddings: bool
    rope_base: float
    init_std: float

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads

    @property
    def num_params_layer(self) -> int:
        """Parameters in matrix products of one block: attention and SwiGLU."""
        kv_width = self.num_kv_heads * self.head_width
        return self.width * (2 * self.width + 2 * kv_width + 3 * self.mlp_width)

    @property
    def num_params_head(self) -> int:
        """Parameters of the output head, tied or not."""
        return self.width * self.num_output_tokens

    @property
    def num_params_total(self) -> int:
        """Parameters in matrix products, used by a token or not: more than the active ones in a mixture only."""
        return self.num_layers * self.num_params_layer + self.num_params_head

    @property
    def num_params_active(self) -> int:
        """N of 6ND: parameters in matrix products that each token uses; output head in, input table out."""
        return self.num_params_total

    @property
    def num_params_with_embeddings(self) -> int:
        """Every learned number: input table and norms as well, a tied table once."""
        norms = self.num_layers * 2 * (self.width + self.head_width) + self.width
        own_head = 0 if self.tie_embeddings else self.num_params_head
        return self.num_layers * self.num_params_layer + norms + own_head + self.width * self.num_input_tokens


def shape_of(config: ModelConfig, num_input_tokens: int, num_output_tokens: int) -> ModelShape:
    """The shape that a configuration asks for.

    Args:
        config: `size`, or `num_layers` and `width` with what else is to differ from the defaults.
        num_input_tokens: Rows of the input table: every token, begin and mask too.
        num_output_tokens: Tokens that are predicted; the first of the input tokens.

    Raises:
        ConfigError: a size that cannot be read or reached, or widths and heads that do not fit together.
    """
    if config.size is not None:
        return _nearest(parse_size(config.size), config, num_input_tokens, num_output_tokens)
    assert config.num_layers is not None  # ModelConfig holds it
    assert config.width is not None
    num_heads = config.num_heads or _default_num_heads(config.width)
    shape = ModelShape(
        num_layers=config.num_layers,
        width=config.width,
        num_heads=num_heads,
        num_kv_heads=config.num_kv_heads or num_heads,
        mlp_width=config.mlp_width or _default_mlp_width(config.width),
        num_input_tokens=num_input_tokens,
        num_output_tokens=num_output_tokens,
        tie_embeddings=config.tie_embeddings,
        rope_base=config.rope_base,
        init_std=config.init_std,
    )
    _check_heads(shape)
    return shape


def parse_size(size: str) -> int:
    """Parameters from a size as 400k, 5M or 1.3B.

    Raises:
        ConfigError: it is no such size.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMbB]?)", size.strip())
    if match is None:
        raise ConfigError(
            f"model.size is {size!r}, but must be a number with k, M or B: set it as 400k, 5M or 1.3B, "
            "or set model.num_layers and model.width instead"
        )
    suffix = {"K": "k", "m": "M", "b": "B"}.get(match[2], match[2])
    return round(float(match[1]) * _SUFFIXES[suffix])


def ladder() -> Iterator[tuple[int, int]]:
    """Every (num_layers, width) that a size can be answered by, narrow ones first."""
    for width in range(_STEP, _MAX_WIDTH + 1, _STEP):
        depth = _DEPTH * math.sqrt(width)
        yield math.floor(depth), width
        yield math.ceil(depth), width


def _nearest(target: int, config: ModelConfig, num_input_tokens: int, num_output_tokens: int) -> ModelShape:
    def at(num_layers: int, width: int) -> ModelShape:
        explicit = config.model_copy(update={"size": None, "num_layers": num_layers, "width": width})
        return shape_of(explicit, num_input_tokens, num_output_tokens)

    def distance(shape: ModelShape) -> float:
        return abs(math.log(shape.num_params_active / max(target, 1)))

    best: ModelShape | None = None
    for num_layers, width in ladder():
        shape = at(num_layers, width)
        if best is None or distance(shape) < distance(best):
            best = shape
        if shape.num_params_active > 4 * target:
            break
    assert best is not None
    if distance(best) > math.log(2):
        raise ConfigError(
            f"model.size is {config.size}, but the nearest shape has {best.num_params_active:,} parameters in matrix "
            f"products ({best.num_layers} layers, width {best.width}, {num_output_tokens} output tokens): set a size "
            "within a factor of 2 of that, or set model.num_layers and model.width"
        )
    return best


def _default_mlp_width(width: int) -> int:
    """8/3 D: as many parameters in SwiGLU's three matrices as in a two-matrix MLP of 4 D (arXiv 2002.05202)."""
    return max(_STEP, round(8 * width / 3 / _STEP) * _STEP)


def _default_num_heads(width: int) -> int:
    """Heads of 32 below width 512 and of 64 from there on, or of the nearest even width from 32 to 64 that divides."""
    if width < _STEP and width % 2 == 0:
        return 1
    wanted = 64 if width >= _WIDE else 32
    fitting = [head for head in range(32, 65, 2) if width % head == 0]
    if not fitting:
        nearest = max(_STEP, round(width / _STEP) * _STEP)
        raise ConfigError(
            f"model.width is {width}, which no even head width from 32 to 64 divides: set model.num_heads to a divisor "
            f"of {width} that leaves an even head width, or set model.width to a multiple of {_STEP}, as {nearest}"
        )
    return width // min(fitting, key=lambda head: abs(head - wanted))


def _check_heads(shape: ModelShape) -> None:
    if shape.width % shape.num_heads:
        raise ConfigError(
            f"model.num_heads is {shape.num_heads}, but must divide model.width = {shape.width}: "
            f"set it to {_near_divisor(shape.width, shape.num_heads)}"
        )
    if shape.num_heads % shape.num_kv_heads:
        raise ConfigError(
            f"model.num_kv_heads is {shape.num_kv_heads}, but must divide model.num_heads = {shape.num_heads}: "
            f"set it to {_near_divisor(shape.num_heads, shape.num_kv_heads)}"
        )
    if shape.head_width % 2:
        raise ConfigError(
            f"model.width / model.num_heads is {shape.head_width}, but rotary embedding needs an even head width: set "
            f"model.num_heads to another divisor of {shape.width}, or model.width to a multiple of {_STEP}"
        )


def _near_divisor(number: int, wanted: int) -> int:
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wanted))
