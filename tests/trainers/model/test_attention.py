"""Attention of every kind against a float64 one of matrices, and the operator for a CPU against torch's rules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crossover.trainers.model import attention
from crossover.trainers.model.attention import attend


def example(
    length: int, heads: int = 3, kv_heads: int = 3, dtype: torch.dtype = torch.bfloat16, num: int = 2
) -> list[Tensor]:
    """Queries, keys, values as projections give them: heads inside of positions."""
    random = torch.Generator().manual_seed(length)
    return [
        torch.randn(num, length, count, 16, generator=random).to(dtype).transpose(1, 2)
        for count in (heads, kv_heads, kv_heads)
    ]


def exact(tensors: list[Tensor], mask_B11L: Tensor | None, causal: bool) -> list[Tensor]:
    """The result, and gradients of the sum of its squares, in float64."""
    q, k, v = (x.detach().double().requires_grad_() for x in tensors)
    groups = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(groups, 1).mT / q.shape[-1] ** 0.5
    if mask_B11L is not None:
        scores = scores.masked_fill(~mask_B11L, -torch.inf)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    y = scores.softmax(-1) @ v.repeat_interleave(groups, 1)
    return [y, *torch.autograd.grad(y.square().sum(), (q, k, v))]


def found(tensors: list[Tensor], mask_B11L: Tensor | None, causal: bool) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    y = attend(*leaves, mask_B11L, causal=causal, dropout=0.0)
    return [y, *torch.autograd.grad(y.float().square().sum(), leaves)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [32, 256, 300, 1030])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.015)])
def test_it_is_what_the_formula_says(length: int, causal: bool, dtype: torch.dtype, tolerance: float) -> None:
    tensors = example(length, dtype=dtype)
    for ours, expected in zip(found(tensors, None, causal), exact(tensors, None, causal), strict=True):
        assert ours.dtype in (dtype, torch.float32)
        assert (ours.double() - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [True, False])
def test_groups_and_masks_are_kept(kv_heads: int, masked: bool) -> None:
    tensors = example(256, heads=4, kv_heads=kv_heads)
    mask_B11L = (torch.arange(256) < torch.tensor([256, 100])[:, None])[:, None, None] if masked else None
    for ours, expected in zip(found(tensors, mask_B11L, False), exact(tensors, mask_B11L, False), strict=True):
        assert (ours.double() - expected).norm() < 0.015 * expected.norm()


@pytest.mark.parametrize("causal", [True, False])
def test_the_operator_splits_heads_as_the_cache_wants_and_gives_the_same(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = example(256)
    whole = found(tensors, None, causal)
    monkeypatch.setattr(attention, "_CACHED_SCORES", 4 * 256**2 // torch.get_num_threads())  # 6 heads in pieces of 4
    for ours, expected in zip(found(tensors, None, causal), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(("num", "heads"), [(2, 3), (1, 3), (2, 1)])
def test_the_operator_keeps_the_rules_of_torch(num: int, heads: int) -> None:
    tensors = [x.requires_grad_() for x in example(64, heads, heads, num=num)]
    torch.library.opcheck(attention._cpu_attention, (*tensors, True))
    y = attention._cpu_attention(*tensors, True)
    torch.library.opcheck(
        attention._cpu_attention_backward, (torch.ones_like(y), *tensors, True), test_utils="test_faketensor"
    )


def test_dropout_of_weights_acts() -> None:
    tensors = example(256)
    torch.manual_seed(0)
    dropped = attend(*(x.requires_grad_() for x in tensors), None, causal=True, dropout=0.5)
    assert (dropped.double() - exact(tensors, None, True)[0]).norm() > 0.1


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [3, 1])
def test_it_is_what_the_formula_says_on_a_gpu(causal: bool, kv_heads: int) -> None:
    tensors = example(256, kv_heads=kv_heads)
    on_gpu = found([x.cuda() for x in tensors], None, causal)
    for ours, expected in zip(on_gpu, exact(tensors, None, causal), strict=True):
        assert (ours.cpu().double() - expected).norm() < 0.015 * expected.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [True, False])
def test_unpadded_attention_on_a_gpu_takes_the_flash_kernel(causal: bool) -> None:
    leaves = [x.cuda().requires_grad_() for x in example(256)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        attend(*leaves, None, causal=causal, dropout=0.0).sum().backward()
    assert leaves[0].grad is not None
