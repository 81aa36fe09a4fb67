from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossover.trainers.config import OptimizerConfig
from crossover.trainers.errors import ConfigError, RecordError
from crossover.trainers.muon import StackedMuon, WholeMuon, newton_schulz
from crossover.trainers.optim import TrainingOptimizer, build_optimizer, clip_gradients

LEARNING_RATE = 0.01


class Tiny(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, width)
        self.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(width, 2 * width, bias=False)}) for _ in range(2))
        self.norm = nn.RMSNorm(2 * width)
        self.head = nn.Linear(2 * width, 11, bias=False)

    def loss(self, seed: int) -> Tensor:
        tokens = torch.randint(0, 11, (32,), generator=torch.Generator().manual_seed(seed))
        x = self.embedding(tokens)
        h = sum(block["up"](x) for block in self.blocks)
        return nn.functional.cross_entropy(self.head(self.norm(h)), tokens.roll(1))


def model_of(width: int = 16) -> Tiny:
    torch.manual_seed(0)
    return Tiny(width)


def train(model: Tiny, optimizer: TrainingOptimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        loss = model.loss(step)
        loss.backward()
        optimizer.step(LEARNING_RATE / (1 + step))
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_adamw_is_the_published_update_with_decay_on_matrices_only() -> None:
    config = OptimizerConfig(weight_decay=0.5, beta1=0.9, beta2=0.95)
    model = model_of()
    weights = {name: parameter.double() for name, parameter in parameters(model).items()}
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()}
    optimizer = build_optimizer(model, config)
    for step in range(1, 4):
        model.loss(step).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            gradient, (first, second) = parameter.grad.double(), moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.95).add_(0.05 * gradient**2)
            decay = 0.0 if name == "norm.weight" else 0.5
            update = (first / (1 - 0.9**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
            weights[name] = weights[name] * (1 - LEARNING_RATE * decay) - LEARNING_RATE * update
        optimizer.step(LEARNING_RATE)
        optimizer.zero_grad()
    for name, parameter in parameters(model).items():
        torch.testing.assert_close(parameter.double(), weights[name], rtol=1e-5, atol=1e-6)


def test_muon_moves_hidden_matrices_by_the_size_of_an_adamw_step_and_the_rest_by_adamw() -> None:
    muon_model, adamw_model = model_of(), model_of()
    before = parameters(muon_model)
    for model, name in ((muon_model, "muon"), (adamw_model, "adamw")):
        optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.0))
        model.loss(0).backward()
        for block in model.blocks:
            torch.nn.init.normal_(block["up"].weight.grad, generator=torch.Generator().manual_seed(1))
        optimizer.step(LEARNING_RATE)
    after_muon, after_adamw = parameters(muon_model), parameters(adamw_model)
    for name in before:
        if not name.startswith("blocks."):
            assert torch.equal(after_muon[name], after_adamw[name])
            continue
        update = (after_muon[name] - before[name]) / LEARNING_RATE
        singular_values = torch.linalg.svdvals(update)
        assert singular_values.max() / singular_values.min() < 2.5  # nearly orthogonal: 0.5 to 1.5 after Newton-Schulz
        assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.3)  # AdamW's usual size, arXiv 2502.16982


def test_muon_decays_hidden_matrices_by_rate_times_decay() -> None:
    with_decay, without = model_of(), model_of()
    before = parameters(with_decay)
    for model, decay in ((with_decay, 0.5), (without, 0.0)):
        optimizer = build_optimizer(model, OptimizerConfig(name="muon", weight_decay=decay))
        model.loss(0).backward()
        optimizer.step(LEARNING_RATE)
    name = "blocks.0.up.weight"
    difference = parameters(without)[name] - parameters(with_decay)[name]
    torch.testing.assert_close(difference, LEARNING_RATE * 0.5 * before[name], rtol=1e-3, atol=1e-6)


SHAPES = [(96, 96), (256, 96), (96, 96), (96, 256), (256, 96), (96, 96), (24, 96), (600, 500), (600, 500)]


def test_muon_of_whole_matrices_is_torchs_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"lr": 0.02, "weight_decay": 0.5, "momentum": 0.95}
    optimizers = WholeMuon(ours, **settings), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(3):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for own, other in zip(ours, theirs, strict=True):
        assert torch.equal(own, other)


def test_small_matrices_of_one_shape_are_orthogonalized_together_and_large_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, ...]] = []
    one = newton_schulz.orthogonalized
    monkeypatch.setattr(newton_schulz, "orthogonalized", lambda matrix: seen.append(tuple(matrix.shape)) or one(matrix))
    newton_schulz.orthogonalized_all([torch.randn(shape) for shape in SHAPES])
    assert seen == [(3, 96, 96), (2, 256, 96), (96, 256), (24, 96), (600, 500), (600, 500)]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_training_lowers_the_loss(name: str) -> None:
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig(name=name))
    before = model.loss(0).item()
    for _ in range(30):
        train(model, optimizer, range(1))
    assert model.loss(0).item() < 0.5 * before


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_saved_optimizer_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    config = OptimizerConfig(name=name)
    undisturbed = model_of()
    expected = train(undisturbed, build_optimizer(undisturbed, config), range(8))

    first = model_of()
    optimizer = build_optimizer(first, config)
    losses = train(first, optimizer, range(4))
    save_file(optimizer.tensors(), tmp_path / "optimizer.safetensors")
    second = model_of()
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, config)
    resumed.load_tensors(load_file(tmp_path / "optimizer.safetensors"))
    losses += train(second, resumed, range(4, 8))

    assert losses == expected
    assert all(torch.equal(w, parameters(second)[name]) for name, w in parameters(undisturbed).items())


def test_loaded_state_is_a_copy() -> None:
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig())
    train(model, optimizer, range(2))
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    given = dict(saved)
    optimizer.load_tensors(given)
    train(model, optimizer, range(2, 3))
    assert all(torch.equal(given[name], saved[name]) for name in saved)
    assert not torch.equal(optimizer.tensors()["adamw.head.weight.exp_avg"], saved["adamw.head.weight.exp_avg"])


def test_state_names_say_optimizer_parameter_and_quantity() -> None:
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig(name="muon"))
    assert optimizer.tensors() == {}
    train(model, optimizer, range(1))
    names = set(optimizer.tensors())
    assert {
        "adamw.embedding.weight.exp_avg",
        "adamw.norm.weight.step",
        "muon.blocks.1.up.weight.momentum_buffer",
    } <= names
    assert not any(name.startswith("adamw.blocks.") for name in names)


def test_state_before_the_first_step_is_empty_and_loads() -> None:
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig())
    optimizer.load_tensors({})
    expected = model_of()
    assert train(model, optimizer, range(2)) == train(expected, build_optimizer(expected, OptimizerConfig()), range(2))


def state_after_a_step(name: str, width: int = 16) -> dict[str, Tensor]:
    model = model_of(width)
    optimizer = build_optimizer(model, OptimizerConfig(name=name))
    train(model, optimizer, range(1))
    return optimizer.tensors()


def test_state_of_another_model_or_optimizer_is_refused_by_name() -> None:
    optimizer = build_optimizer(model_of(), OptimizerConfig(name="muon"))
    with pytest.raises(RecordError, match=r"adamw\.embedding\.weight\.exp_avg is \(11, 8\) there and \(11, 16\) here"):
        optimizer.load_tensors(state_after_a_step("muon", width=8))
    with pytest.raises(RecordError, match=r"muon\.blocks\.0\.up\.weight\.momentum_buffer is absent there"):
        optimizer.load_tensors(state_after_a_step("adamw"))
    with pytest.raises(RecordError, match=r"it has adamw\.extra\.exp_avg"):
        optimizer.load_tensors(state_after_a_step("muon") | {"adamw.extra.exp_avg": torch.zeros(1)})


def test_refused_state_leaves_the_optimizer_as_it_was() -> None:
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig(name="muon"))
    train(model, optimizer, range(1))
    before = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    with pytest.raises(RecordError):
        optimizer.load_tensors(state_after_a_step("adamw"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in optimizer.tensors().items())


def test_muon_without_hidden_matrices_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"set optimizer\.name to adamw"):
        build_optimizer(nn.Linear(3, 3), OptimizerConfig(name="muon"))


def test_large_gradients_are_scaled_to_the_norm_and_small_ones_left() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[3.0, 0.0]])
    model.bias.grad = torch.tensor([4.0])
    assert clip_gradients(model, 1.0).item() == pytest.approx(5.0)
    assert model.weight.grad[0].tolist() == pytest.approx([0.6, 0.0])
    assert model.bias.grad.tolist() == pytest.approx([0.8])
    assert clip_gradients(model, 10.0).item() == pytest.approx(1.0)
    assert model.bias.grad.tolist() == pytest.approx([0.8])


def test_gradient_that_is_not_finite_shows_in_the_norm() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[float("nan"), 0.0]])
    model.bias.grad = torch.tensor([4.0])
    assert clip_gradients(model, 1.0).isnan()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_of_a_step_is_that_of_matrices(name: str) -> None:
    """With no gradient a step only decays."""
    model = model_of()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.0))
    for decay in (0.5, 2.0):
        before = parameters(model)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step(0.1, decay)
        for key, parameter in model.named_parameters():
            factor = 1 - 0.1 * decay if parameter.ndim == 2 else 1.0
            torch.testing.assert_close(parameter.detach(), factor * before[key], msg=key)


def test_muon_of_a_stack_is_that_of_each_of_its_matrices() -> None:
    make = torch.Generator().manual_seed(0)
    stack = nn.Parameter(torch.randn(3, 12, 20, generator=make))
    single = [nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    found = StackedMuon([stack], **settings)
    expected = torch.optim.Muon(single, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(3):
        stack.grad = torch.randn(stack.shape, generator=make)
        for matrix, gradient in zip(single, stack.grad, strict=True):
            matrix.grad = gradient.clone()
        found.step()
        expected.step()
    for matrix, other in zip(stack, single, strict=True):
        torch.testing.assert_close(matrix, other, rtol=2e-2, atol=2e-3)
