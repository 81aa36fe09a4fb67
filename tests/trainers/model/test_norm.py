import pytest
import torch
from torch.nn import functional

from crossover.trainers.model.norm import RMSNorm


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 4, 6), (7,)])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(shape[-1])
    torch.nn.init.normal_(norm.weight, mean=1.0)
    x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
    reference_x, reference_weight = x.detach().clone().requires_grad_(), norm.weight.detach().clone().requires_grad_()
    ours = norm(x)
    theirs = functional.rms_norm(reference_x, shape[-1:], reference_weight, 1e-6)
    ours.backward(gradient)
    theirs.backward(gradient)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(x.grad, reference_x.grad)
    torch.testing.assert_close(norm.weight.grad, reference_weight.grad)


def test_zeros_stay_zeros_and_have_finite_gradients() -> None:
    x = torch.zeros(3, 8, requires_grad=True)
    y = RMSNorm(8)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(3, 8))
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_half_precision_is_normalized_in_float32() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(RMSNorm(8)(x), functional.rms_norm(x.float(), (8,), None, 1e-6))


def test_a_view_of_another_layout_gives_the_same() -> None:
    x = torch.randn(4, 6, 8)
    norm = RMSNorm(8)
    assert torch.equal(norm(x.transpose(0, 1)), norm(x).transpose(0, 1))
