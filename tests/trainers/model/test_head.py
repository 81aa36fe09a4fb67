"""Costs and gradients in chunks against logits that exist whole, in float64, and what is never made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crossover.trainers.model import head
from crossover.trainers.model.head import nats_of_each, weighted_nats

WIDTH, OUTPUTS = 32, 500


def example(num: int = 700, outputs: int = OUTPUTS, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    h_ND = torch.randn(num, width, generator=random)
    weight_VD = 0.3 * torch.randn(outputs, width, generator=random)
    return h_ND, weight_VD, torch.randint(outputs, (num,), generator=random), torch.rand(num, generator=random) * 9


def whole(h_ND: Tensor, weight_VD: Tensor, tokens_N: Tensor, scale_N: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cost and gradients in float64."""
    h_ND, weight_VD = (x.detach().double().requires_grad_() for x in (h_ND, weight_VD))
    h_KD = h_ND[: len(tokens_N)]
    nats_N = -(h_KD @ weight_VD.T).log_softmax(1).gather(1, tokens_N[:, None])[:, 0]
    cost = (nats_N if scale_N is None else nats_N * scale_N).sum()
    return cost, *torch.autograd.grad(cost, (h_ND, weight_VD))


def in_chunks(h_ND: Tensor, weight_VD: Tensor, tokens_N: Tensor, scale_N: Tensor | None) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in (h_ND, weight_VD)]
    cost = weighted_nats(*leaves, tokens_N, scale_N)
    (3 * cost).backward()
    return cost.detach(), *(leaf.grad / 3 for leaf in leaves)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loss of more than 128 rows is made in chunks."""
    monkeypatch.setitem(head._FEW, "cpu", 1)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("num", [129, 256, 700])
@pytest.mark.usefixtures("few")
def test_chunks_cost_and_teach_what_the_whole_does(num: int, weighted: bool) -> None:
    h_ND, weight_VD, tokens_N, scale_N = example(num)
    scale = scale_N if weighted else None
    for found, expected in zip(
        in_chunks(h_ND, weight_VD, tokens_N, scale), whole(h_ND, weight_VD, tokens_N, scale), strict=True
    ):
        assert distance(found, expected) < 1e-6


@pytest.mark.usefixtures("few")
def test_chunks_under_autocast_are_as_near_to_the_truth_as_the_whole() -> None:
    args = example()
    exact = whole(*args)
    with torch.autocast("cpu", torch.bfloat16):
        chunked = in_chunks(*args)
    leaves = [x.detach().clone().requires_grad_() for x in args[:2]]
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.nn.functional.linear(*leaves)
    cost = (torch.nn.functional.cross_entropy(logits.float(), args[2], reduction="none") * args[3]).sum()
    plain = (cost.detach(), *torch.autograd.grad(cost, leaves))
    assert [x.dtype for x in chunked] == [torch.float32] * 3
    for found, usual, expected in zip(chunked, plain, exact, strict=True):
        assert distance(found, expected) < max(1.2 * distance(usual, expected), 1e-4)


@pytest.mark.usefixtures("few")
def test_weights_in_bfloat16_get_their_gradient_in_bfloat16() -> None:
    h_ND, weight_VD, tokens_N, scale_N = example()
    found = in_chunks(h_ND, weight_VD.bfloat16(), tokens_N, scale_N)
    assert [x.dtype for x in found] == [torch.float32, torch.float32, torch.bfloat16]
    assert distance(found[2], whole(h_ND, weight_VD.bfloat16(), tokens_N, scale_N)[2]) < 0.01


@pytest.mark.parametrize("chunked", [True, False])
def test_rows_that_fill_a_tile_cost_and_teach_nothing(chunked: bool, request: pytest.FixtureRequest) -> None:
    if chunked:
        request.getfixturevalue("few")
    h_ND, weight_VD, tokens_N, scale_N = example(300)
    filled = torch.cat([h_ND, h_ND[-1:].expand(84, -1)])
    cost, grad_MD, grad_VD = in_chunks(filled, weight_VD, tokens_N, scale_N)
    expected = whole(h_ND, weight_VD, tokens_N, scale_N)
    assert distance(cost, expected[0]) < 1e-6
    assert distance(grad_MD[:300], expected[1]) < 1e-6
    assert (grad_MD[300:] == 0).all()
    assert distance(grad_VD, expected[2]) < 1e-6
    with torch.no_grad():
        torch.testing.assert_close(nats_of_each(filled, weight_VD, tokens_N).shape, tokens_N.shape)


def test_no_token_costs_nothing() -> None:
    h_ND, weight_VD, tokens_N, scale_N = example(0)
    cost, *gradients = in_chunks(h_ND, weight_VD, tokens_N, scale_N)
    assert cost == 0
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.usefixtures("few")
def test_a_second_backward_pass_is_refused() -> None:
    h_ND, *rest = example()
    cost = weighted_nats(h_ND.requires_grad_(), *rest)
    cost.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="one backward pass"):
        cost.backward()


@pytest.mark.usefixtures("few")
def test_each_token_costs_the_same_in_chunks() -> None:
    h_ND, weight_VD, tokens_N, _ = example()
    expected = -(h_ND.double() @ weight_VD.double().T).log_softmax(1).gather(1, tokens_N[:, None])[:, 0]
    with torch.no_grad():
        found = nats_of_each(h_ND, weight_VD, tokens_N)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("few")
def test_few_logits_are_made_at_once_and_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    args = example(128)
    monkeypatch.setattr(head, "_ChunkedNats", None)
    found = in_chunks(*args)
    leaves = [x.detach().clone().requires_grad_() for x in args[:2]]
    nats_N = torch.nn.functional.cross_entropy(leaves[0] @ leaves[1].T, args[2], reduction="none")
    cost = (nats_N * args[3]).sum()
    assert torch.equal(found[0], cost)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(broken: float) -> None:
    h_ND, weight_VD, tokens_N, scale_N = example()
    h_ND[3, 4] = broken
    cost, grad_ND, grad_VD = in_chunks(h_ND, weight_VD, tokens_N, scale_N)
    assert not cost.isfinite()
    assert not grad_ND[3].isfinite().all()
    assert not grad_VD.isfinite().all()


@pytest.mark.usefixtures("few")
def test_a_hopeless_token_costs_much_and_still_teaches() -> None:
    h_ND, weight_VD, tokens_N, scale_N = example()
    h_ND[0] = 4000 * weight_VD[7]
    tokens_N[0] = int((weight_VD @ weight_VD[7]).argmin())
    cost, grad_ND, _ = in_chunks(h_ND, weight_VD, tokens_N, scale_N.fill_(1.0))
    assert cost.isfinite()
    assert cost > 87
    assert distance(grad_ND[0], whole(h_ND, weight_VD, tokens_N, scale_N)[1][0]) < 1e-5


class Largest(TorchDispatchMode):
    """The most elements that any tensor had which an operation returned."""

    num = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.num = max(self.num, tensor.numel())
        return result


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_logits_of_a_large_vocabulary_never_exist_whole(precision: torch.dtype) -> None:
    num, outputs, width = 1024, 131_072, 16
    h_ND, weight_VD, tokens_N, scale_N = example(num, outputs, width)
    leaves = [h_ND.requires_grad_(), weight_VD.requires_grad_()]
    with Largest() as trained:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            cost = weighted_nats(*leaves, tokens_N, scale_N)
        cost.backward()
    with Largest() as scored, torch.no_grad():
        nats_of_each(*leaves, tokens_N)
    assert outputs * width <= trained.num <= num * outputs // 4
    assert scored.num <= num * outputs // 4


@pytest.mark.gpu
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_chunks_on_a_gpu_cost_and_teach_what_the_whole_does(
    precision: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head._FEW, "cuda", 1)
    args = example(700, outputs=5000)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == torch.bfloat16):
        parts = in_chunks(*(x.cuda() for x in args))
    for found, expected in zip(parts, whole(*args), strict=True):
        assert distance(found.cpu(), expected) < tolerance


@pytest.mark.gpu
def test_logits_on_a_gpu_take_the_memory_of_a_chunk() -> None:
    num, outputs, width = 16_384, 131_072, 256
    random = torch.Generator("cuda").manual_seed(0)
    h_ND = torch.randn(num, width, generator=random, device="cuda", requires_grad=True)
    weight_VD = torch.randn(outputs, width, generator=random, device="cuda", requires_grad=True)
    tokens_N = torch.randint(outputs, (num,), generator=random, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        cost = weighted_nats(h_ND, weight_VD, tokens_N)
    cost.backward()
    assert torch.cuda.max_memory_allocated() - before < num * outputs  # half of the logits in bfloat16
