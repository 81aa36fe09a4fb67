import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.model.shapes import ladder, parse_size, shape_of
from crossover.trainers.model.transformer import Transformer


@pytest.mark.parametrize(
    ("size", "num_layers", "width"),
    [("400k", 4, 96), ("1M", 5, 128), ("5M", 6, 256), ("100M", 12, 832), ("1B", 20, 2048)],
)
def test_size_takes_the_nearest_shape(size: str, num_layers: int, width: int) -> None:
    shape = shape_of(ModelConfig(size=size), 259, 257)
    assert (shape.num_layers, shape.width) == (num_layers, width)
    wanted = parse_size(size)
    others = [shape_of(ModelConfig(num_layers=n, width=w), 259, 257) for n, w in ladder() if w <= 2 * width]
    ratios = [max(other.num_params_active / wanted, wanted / other.num_params_active) for other in others]
    assert max(shape.num_params_active / wanted, wanted / shape.num_params_active) == min(ratios)


def test_vocabulary_counts_in_the_size() -> None:
    small = shape_of(ModelConfig(size="20M"), 259, 257)
    large = shape_of(ModelConfig(size="20M"), 32_002, 32_000)
    assert large.num_params_layer * large.num_layers < small.num_params_layer * small.num_layers
    assert large.num_params_active == pytest.approx(20e6, rel=0.3)


@pytest.mark.parametrize("config", [{}, {"num_kv_heads": 1}, {"mlp_width": 40}, {"tie_embeddings": True}])
def test_counts_are_those_of_the_model(config: dict[str, int]) -> None:
    shape = shape_of(ModelConfig(num_layers=3, width=64, **config), 19, 17)
    parameters = dict(Transformer(shape, RegularizationConfig()).named_parameters())
    matrices = sum(p.numel() for name, p in parameters.items() if p.ndim == 2 and name != "embedding.weight")
    if shape.tie_embeddings:
        matrices += 17 * 64
    assert shape.num_params_active == matrices
    assert shape.num_params_total == matrices
    assert shape.num_params_with_embeddings == sum(p.numel() for p in parameters.values())


@given(st.sampled_from(list(ladder())[:200]))
def test_every_shape_of_the_ladder_has_heads_of_32_to_64(rung: tuple[int, int]) -> None:
    num_layers, width = rung
    shape = shape_of(ModelConfig(num_layers=num_layers, width=width), 259, 257)
    assert 32 <= shape.head_width <= 64
    assert shape.head_width * shape.num_heads == width
    assert shape.mlp_width % 32 == 0
    assert abs(shape.mlp_width - 8 * width / 3) <= 16


def test_heads_of_widths_off_the_ladder() -> None:
    assert shape_of(ModelConfig(num_layers=1, width=100), 9, 7).num_heads == 2
    assert shape_of(ModelConfig(num_layers=1, width=8), 9, 7).num_heads == 1
    assert shape_of(ModelConfig(num_layers=1, width=1024), 9, 7).head_width == 64


@pytest.mark.parametrize(
    ("text", "number"), [("400k", 400_000), ("5M", 5_000_000), ("1.3B", 1_300_000_000), (" 70m ", 70_000_000), ("9", 9)]
)
def test_sizes_are_read(text: str, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"size": "big"}, ["'big'", "400k", "model.num_layers"]),
        ({"size": "-4M"}, ["'-4M'"]),
        ({"size": "4 M5"}, ["'4 M5'"]),
        ({"size": "0"}, ["model.size is 0", "nearest", "within a factor of 2"]),
        ({"size": "900B"}, ["model.size is 900B", "nearest"]),
        ({"num_layers": 2, "width": 96, "num_heads": 5}, ["model.num_heads is 5", "96", "set it to 4"]),
        ({"num_layers": 2, "width": 96, "num_heads": 3, "num_kv_heads": 2}, ["model.num_kv_heads is 2", "set it to 1"]),
        ({"num_layers": 2, "width": 96, "num_heads": 3, "num_kv_heads": 6}, ["model.num_kv_heads is 6", "set it to 3"]),
        ({"num_layers": 2, "width": 99, "num_heads": 3}, ["is 33", "even head width"]),
        ({"num_layers": 2, "width": 101}, ["model.width is 101", "multiple of 32, as 96"]),
        ({"num_layers": 2, "width": 7}, ["model.width is 7", "as 32"]),
    ],
)
def test_bad_shapes_name_value_rule_and_remedy(config: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        shape_of(ModelConfig.model_validate(config), 259, 257)
    for word in words:
        assert word in str(caught.value)


def test_shapes_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from crossover.trainers.config import ModelConfig\n"
        "from crossover.trainers.model.shapes import shape_of\n"
        "print(shape_of(ModelConfig(size='400k'), 259, 257).num_params_active)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == shape_of(ModelConfig(size="400k"), 259, 257).num_params_active
