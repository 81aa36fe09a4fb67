from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossover.trainers import flops, objectives
from crossover.trainers.config import ModelConfig, RegularizationConfig, config_from_dotted
from crossover.trainers.data import Batch, Windows
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.model.shapes import ModelShape, shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives import Objective, base

BATCH, LENGTH, LAYERS, WIDTH = 4, 24, 2, 64


def build(name: str) -> Objective:
    settings = {"data.corpus": "none", "data.unique_tokens": 1000, "model.size": "1M", "schedule.epochs": 1}
    return objectives.build(config_from_dotted({**settings, "objective.name": name}), BYTES)


def make_shape(**config: object) -> ModelShape:
    model = ModelConfig.model_validate({"num_layers": LAYERS, "width": WIDTH, **config})
    return shape_of(model, BYTES.num_input_tokens, BYTES.num_output_tokens)


def counted(run: Callable[[], object]) -> dict[str, int]:
    """Matrix products by torch's own counter; the math kernel, because it does not know the CPU's flash kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return {str(name): number for name, number in counter.get_flop_counts()["Global"].items()}


def full_scores(passes: int) -> int:
    """Scores and weighted values of every layer with all keys, as a kernel without causal skipping computes them."""
    return passes * 4 * LAYERS * WIDTH * LENGTH * BATCH * LENGTH


@pytest.mark.parametrize("config", [{}, {"num_kv_heads": 1}, {"tie_embeddings": True, "mlp_width": 96}])
@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion"])
def test_training_count_is_that_of_torch(name: str, config: dict[str, object]) -> None:
    shape, objective = make_shape(**config), build(name)
    model = Transformer(shape, RegularizationConfig())
    tokens = torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), tokens.numel())
    heads: list[int] = []
    nats_sum = model.nats_sum

    def counted_nats(h: torch.Tensor, *arguments: torch.Tensor) -> torch.Tensor:
        heads.append(len(h))
        return nats_sum(h, *arguments)

    model.nats_sum = counted_nats  # type: ignore[method-assign]
    by_torch = counted(lambda: objective.training_loss(model, batch, torch.Generator().manual_seed(0)).nats.backward())
    assert by_torch.pop("aten.bmm") == full_scores(passes=3)
    # What differs: we halve causal scores, and take the expected number of logits where this step drew its own.
    scores = full_scores(3) * ((LENGTH + 1) / 2 / LENGTH if objective.causal else 1)
    expected_heads = objective.training_head_fraction * tokens.numel()
    surplus = 6 * shape.num_params_head * (sum(heads) - expected_heads)
    ours = flops.training_flops_per_token(shape, objective, LENGTH) * tokens.numel()
    assert ours == pytest.approx(by_torch.pop("aten.mm") + scores - surplus, rel=1e-12)
    assert not by_torch


@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion"])
def test_evaluation_count_is_that_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_TILE", 1)  # rows that only fill a tile are not counted
    shape, objective = make_shape(), build(name)
    model = Transformer(shape, RegularizationConfig())
    tokens = torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    windows = Windows(tokens, torch.ones_like(tokens, dtype=torch.bool), *(np.full(BATCH, LENGTH) for _ in "123"), "")
    by_torch = counted(lambda: objective.window_nats(model, windows, num_masks=24, seed=0))
    passes = objective.evaluation_passes(24)
    scores = full_scores(passes) * ((LENGTH + 1) / 2 / LENGTH if objective.causal else 1)
    assert by_torch["aten.bmm"] == pytest.approx(full_scores(passes), rel=1e-4)  # a bound also reads a single mask
    ours = flops.evaluation_flops(shape, objective, windows.num_tokens_W, 24)
    assert ours == pytest.approx(by_torch["aten.mm"] + scores, rel=1e-3)  # k is stratified, so nearly exact


def test_evaluation_of_unequal_windows_is_the_sum_of_each() -> None:
    shape, objective = make_shape(), build("masked_diffusion")
    lengths = [24, 3, 24, 1]
    parts = [flops.evaluation_flops(shape, objective, np.array([n]), 2) for n in lengths]
    assert flops.evaluation_flops(shape, objective, np.array(lengths), 2) == pytest.approx(sum(parts))
    assert parts[0] > 8 * parts[1]


def test_6nd_is_the_count_of_matrix_products_of_weights() -> None:
    shape = make_shape()
    per_token = flops.training_flops_per_token(shape, build("autoregressive"), LENGTH)
    scores = 12 * LAYERS * WIDTH * (LENGTH + 1) / 2
    assert flops.training_flops_6nd(shape, 1000) == pytest.approx(1000 * (per_token - scores))


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "float32", 19.5e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),
        ("NVIDIA RTX A1000", "bfloat16", None),
        ("Intel(R) Xeon(R) Processor", "bfloat16", None),
        ("cpu", "float32", None),
        ("", "float32", None),
    ],
)
def test_peaks_are_known_or_missing(device: str, precision: str, peak: float | None) -> None:
    assert flops.device_peak_flops(device, precision) == peak


def test_utilization_is_a_share_of_the_peak_or_missing() -> None:
    assert flops.mfu(2e6, 1e6, 4e12) == pytest.approx(0.5)
    assert flops.mfu(2e6, 1e6, None) is None
