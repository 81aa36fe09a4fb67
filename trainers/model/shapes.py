"""A model's shape from what the user meant by it: torch-free, so that a dry run needs no torch.

`size` counts parameters in matrix products, output head in, input table out: the N of 6ND. The nearest shape of one
ladder answers it: widths are multiples of 32, depth grows as 0.42 sqrt(width), rounded down or up, which passes through
96 x 4, 512 x 10, 768 x 12 (GPT-2) and 4096 x 27 (Llama: 32). With 257 output tokens two shapes in a row are at most a
factor of 3.3 apart, and 1.5 above 0.46M parameters: a run records the count of its shape, not the size asked for.

A mixture of experts has two dense controls (1B1A and 8B8A beside 8B1A, in the words of arXiv 2511.03276): of equal
active parameters, the same shape with the MLP that a token uses; of equal total parameters, the nearest shape of the
ladder with the width of its MLP adjusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from crossover.trainers.errors import ConfigError
from crossover.trainers.model.mixture_shape import Mixture, mixture_of, num_experts_for

if TYPE_CHECKING:
    from crossover.trainers.config import ModelConfig

__all__ = ["ModelShape", "dense_controls", "ladder", "parse_size", "shape_of"]

_STEP = 32  # widths and MLP widths are multiples of it: whole tiles of AMX and tensor cores
_FINE_STEP = 8
_MAX_WIDTH = 16_384
_DEPTH = 0.42
_WIDE = 512  # from here on heads of 64, below it heads of 32, as in the ladder of arXiv 2507.15857
_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class ModelShape:
    """All that a transformer's shape consists of; counts are computed from it.

    Counts of parameters are of those in matrix products, routers among them, unless the name says otherwise.
    """

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
    mixture: Mixture | None = None

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads

    @property
    def num_mixtures(self) -> int:
        """Layers that have experts: the last ones."""
        return 0 if self.mixture is None else self.num_layers - self.mixture.first_dense_layers

    @property
    def num_params_layer(self) -> int:
        """Of the largest block, used by a token or not."""
        if self.mixture is None:
            return self._num_params_dense_layer
        return self._num_params_mixture_layer(self.mixture.total_width)

    @property
    def num_params_blocks(self) -> int:
        """Of all blocks, used by a token or not."""
        return self._num_params_blocks(0 if self.mixture is None else self.mixture.total_width)

    @property
    def num_params_blocks_active(self) -> int:
        """Of all blocks, used by each token."""
        return self._num_params_blocks(0 if self.mixture is None else self.mixture.active_width)

    @property
    def num_params_head(self) -> int:
        """Of the output head, tied or not."""
        return self.width * self.num_output_tokens

    @property
    def num_params_total(self) -> int:
        """Used by a token or not: more than the active ones in a mixture only."""
        return self.num_params_blocks + self.num_params_head

    @property
    def num_params_active(self) -> int:
        """N of 6ND: those that each token uses; output head in, input table out."""
        return self.num_params_blocks_active + self.num_params_head

    @property
    def num_params_with_embeddings(self) -> int:
        """Every learned number: input table and norms as well, a tied table once."""
        norms = self.num_layers * 2 * (self.width + self.head_width) + self.width
        own_head = 0 if self.tie_embeddings else self.num_params_head
        return self.num_params_blocks + norms + own_head + self.width * self.num_input_tokens

    @property
    def _num_params_attention(self) -> int:
        kv_width = self.num_kv_heads * self.head_width
        return self.width * (2 * self.width + 2 * kv_width)

    @property
    def _num_params_dense_layer(self) -> int:
        return self._num_params_attention + 3 * self.width * self.mlp_width

    def _num_params_mixture_layer(self, hidden_width: int) -> int:
        assert self.mixture is not None
        return self._num_params_attention + self.width * (3 * hidden_width + self.mixture.num_experts)

    def _num_params_blocks(self, hidden_width: int) -> int:
        """Where mixtures use so much of their hidden width."""
        num_params = (self.num_layers - self.num_mixtures) * self._num_params_dense_layer
        if self.num_mixtures:
            num_params += self.num_mixtures * self._num_params_mixture_layer(hidden_width)
        return num_params


@lru_cache(maxsize=4096)  # a search asks for the same few thousands of times, and a size is found by trying
def shape_of(config: ModelConfig, num_input_tokens: int, num_output_tokens: int) -> ModelShape:
    """The shape that a configuration asks for.

    Args:
        config: `size`, or `num_layers` and `width` with what else is to differ from the defaults.
        num_input_tokens: Rows of the input table: every token, begin and mask too.
        num_output_tokens: Tokens that are predicted; the first of the input tokens.

    Raises:
        ConfigError: a size that cannot be read or reached, or widths, heads and experts that do not fit together.
    """
    if config.dense_control != "none":
        return dense_controls(config, num_input_tokens, num_output_tokens)[config.dense_control]
    if config.size is not None:
        return _nearest(parse_size(config.size), config, num_input_tokens, num_output_tokens)
    assert config.num_layers is not None  # ModelConfig holds it
    assert config.width is not None
    num_heads = config.num_heads or _default_num_heads(config.width)
    dense = ModelShape(
        num_layers=config.num_layers,
        width=config.width,
        num_heads=num_heads,
        num_kv_heads=config.num_kv_heads or num_heads,
        mlp_width=config.mlp_width or _default_mlp_width(config.width, config.granularity),
        num_input_tokens=num_input_tokens,
        num_output_tokens=num_output_tokens,
        tie_embeddings=config.tie_embeddings,
        rope_base=config.rope_base,
        init_std=config.init_std,
    )
    _check_heads(dense)
    return _with_experts(dense, config) if config.is_mixture else dense


def dense_controls(config: ModelConfig, num_input_tokens: int, num_output_tokens: int) -> dict[str, ModelShape]:
    """The dense shapes that a mixture is compared with.

    Args:
        config: Of the mixture; its `dense_control` is not read.
        num_input_tokens: Rows of the input table.
        num_output_tokens: Tokens that are predicted.

    Returns:
        `active`: as many parameters as a token of the mixture uses, but for the routers'. `total`: as many as the
        mixture has, to within 2 % for widths of 256 and more.

    Raises:
        ConfigError: the mixture or its control has no shape, or the configuration is of no mixture.
    """
    if not config.is_mixture:
        raise ConfigError(
            f"model.dense_control is {config.dense_control}, but this model is dense: set model.num_experts or "
            "model.sparsity to what the control is of"
        )
    moe = shape_of(config.model_copy(update={"dense_control": "none"}), num_input_tokens, num_output_tokens)
    assert moe.mixture is not None
    active = replace(moe, mlp_width=moe.mixture.active_width, mixture=None)
    plain = {"granularity": 1, "num_heads": None, "num_kv_heads": None, "mlp_width": None}
    dense = config.model_copy(update={"num_experts": None, "sparsity": None, "dense_control": "none", **plain})
    total = _nearest(moe.num_params_total, dense, num_input_tokens, num_output_tokens)
    missing = (moe.num_params_total - total.num_params_total) / (3 * total.width * total.num_layers)
    mlp_width = max(_FINE_STEP, round((total.mlp_width + missing) / _FINE_STEP) * _FINE_STEP)
    return {"active": active, "total": replace(total, mlp_width=mlp_width)}


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


def _with_experts(dense: ModelShape, config: ModelConfig) -> ModelShape:
    num_experts = config.num_experts
    if num_experts is None:
        num_experts = num_experts_for(
            config, dense.num_layers, dense.width, dense.mlp_width, _num_params_of_active_width(dense, config)
        )
    mixture = mixture_of(config, num_experts, dense.num_layers, dense.mlp_width)
    return replace(dense, mixture=mixture)


def _num_params_of_active_width(dense: ModelShape, config: ModelConfig) -> int:
    """Of the mixture's active part, its routers aside."""
    some = mixture_of(config, max(config.granularity, config.experts_per_token or 1), dense.num_layers, dense.mlp_width)
    routers = dense.width * some.num_experts * (dense.num_layers - some.first_dense_layers)
    return replace(dense, mixture=some).num_params_active - routers


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
        asked = config.size or f"{target:,}"
        raise ConfigError(
            f"model.size is {asked}, but the nearest shape has {best.num_params_active:,} parameters in matrix "
            f"products ({best.num_layers} layers, width {best.width}, {num_output_tokens} output tokens): set a size "
            "within a factor of 2 of that, or set model.num_layers and model.width"
        )
    return best


def _default_mlp_width(width: int, granularity: int) -> int:
    """8/3 D: as many parameters in SwiGLU's three matrices as in a two-matrix MLP of 4 D (arXiv 2002.05202).

    Cut into experts, each is a multiple of 8 wide, which grouped products on a GPU need.
    """
    step = math.lcm(_STEP, _FINE_STEP * granularity)
    return max(step, round(8 * width / 3 / step) * step)


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
