from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from crossover.trainers.averaging import AveragedWeights, decay_of_average
from crossover.trainers.errors import RecordError


def model_of(value: float) -> nn.Module:
    model = nn.Linear(2, 3)
    fill(model, value)
    return model


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def shares(num_steps: int, horizon_fraction: float) -> np.ndarray:
    """How much the weights of each update count after the last, found by averaging one unit vector an update."""
    model = nn.Linear(num_steps, 1, bias=False)
    average = AveragedWeights(model, horizon_fraction)
    for step in range(num_steps):
        with torch.no_grad():
            model.weight.copy_(torch.eye(num_steps)[step])
        average.update(step + 1)
    return average.tensors()["weight"][0].double().numpy()


@pytest.mark.parametrize("horizon_fraction", [0.05, 0.1, 0.3])
def test_weights_of_each_update_count_as_the_power_function_says(horizon_fraction: float) -> None:
    num_steps = 200
    power = 1 / horizon_fraction - 1  # gamma + 1
    ends = (np.arange(num_steps + 1) / num_steps) ** power
    assert shares(num_steps, horizon_fraction) == pytest.approx(np.diff(ends), abs=1e-6)


@pytest.mark.parametrize("num_steps", [50, 500])
@pytest.mark.parametrize("horizon_fraction", [0.1, 0.25])
def test_mean_age_is_the_same_fraction_of_the_steps_whatever_their_number(
    num_steps: int, horizon_fraction: float
) -> None:
    share = shares(num_steps, horizon_fraction)
    ages = num_steps - np.arange(1, num_steps + 1)
    assert share.sum() == pytest.approx(1, abs=1e-5)
    assert (share * ages).sum() / num_steps == pytest.approx(horizon_fraction, abs=1 / num_steps)


def test_nothing_remembers_the_initial_weights() -> None:
    model = model_of(1e6)
    average = AveragedWeights(model, 0.1)
    fill(model, 1.0)
    average.update(1)
    assert all((tensor == 1.0).all() for tensor in average.tensors().values())
    assert decay_of_average(1, 0.1) == 0


def test_constant_weights_are_their_own_average() -> None:
    model = model_of(0.7)
    average = AveragedWeights(model, 0.1)
    for step in range(1, 30):
        average.update(step)
    assert average.tensors()["bias"] == pytest.approx(model.bias.detach())


def test_averaged_weights_are_in_the_model_inside_and_its_own_after_even_an_error() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    average = AveragedWeights(model, 0.1)
    average.update(1)
    with torch.no_grad():
        model.weight.mul_(torch.randn(4, 4))
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop here"), average.swapped_in():
        assert torch.equal(model.weight, average.tensors()["weight"])
        assert not torch.equal(model.weight, own["weight"])
        raise RuntimeError("stop here")
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_horizon_zero_leaves_the_model_as_it_is() -> None:
    model = model_of(1.0)
    average = AveragedWeights(model, 0.0)
    average.update(1)
    fill(model, 2.0)
    with average.swapped_in():
        assert (model.weight == 2.0).all()
    assert not average.is_on
    assert average.tensors() == {}


def test_shared_parameters_are_averaged_once_and_stay_shared() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    average = AveragedWeights(model, 0.1)
    average.update(1)
    assert list(average.tensors()) == ["0.weight"]
    with average.swapped_in():
        assert model[0].weight is model[1].weight


def test_average_is_kept_in_float32_for_a_smaller_type() -> None:
    model = nn.Linear(8, 8).to(torch.bfloat16)
    average = AveragedWeights(model, 0.1)
    for step in range(1, 4):
        with torch.no_grad():
            model.weight.add_(0.01)
        average.update(step)
    assert average.tensors()["weight"].dtype == torch.float32
    with average.swapped_in():
        assert model.weight.dtype == torch.bfloat16


def test_saved_average_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(stop_at: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = nn.Linear(5, 5)
        average = AveragedWeights(model, 0.1)
        for step in range(1, 21):
            with torch.no_grad():
                model.weight.add_(torch.randn(5, 5))
            average.update(step)
            if step == stop_at:
                save_file(average.tensors(), tmp_path / "average.safetensors")
                average = AveragedWeights(model, 0.1)
                average.load_tensors(load_file(tmp_path / "average.safetensors"))
        return average.tensors()

    undisturbed, resumed = run(None), run(11)
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_state_of_another_model_is_refused_by_name() -> None:
    average = AveragedWeights(nn.Linear(2, 3), 0.1)
    with pytest.raises(RecordError, match=r"weight is \(3, 4\) there and \(3, 2\) here"):
        average.load_tensors(AveragedWeights(nn.Linear(4, 3), 0.1).tensors())
    with pytest.raises(RecordError, match="bias is absent there"):
        average.load_tensors({})
    with pytest.raises(RecordError, match="absent here"):
        AveragedWeights(nn.Linear(2, 3), 0.0).load_tensors(average.tensors())
