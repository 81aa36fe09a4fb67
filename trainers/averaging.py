"""Averaged weights whose horizon is a fraction of the steps done, so that it means the same at every length.

Power-function averaging (Karras et al., arXiv 2312.02696, section 3.1): after t updates, the weights of update i
enter with (i/t)^(g+1) - ((i-1)/t)^(g+1). Their mean age is t / (g + 2), so a horizon h gives g = 1/h - 2. The first
update takes the weights as they are: nothing remembers the initial weights, so there is no bias to correct.
An ordinary EMA has a horizon in steps, which is another average at every U, batch size and number of epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crossover.trainers.checkpoint import load_into, shapes_of
from crossover.trainers.errors import RecordError
from crossover.trainers.world import local_part

__all__ = ["AveragedWeights", "decay_of_average"]


def decay_of_average(num_updates: int, horizon_fraction: float) -> float:
    """How much of the old average stays at an update: (1 - 1/t)^(g+1), and 0 at the first.

    Args:
        num_updates: updates done, this one included: t, at least 1.
        horizon_fraction: mean age of the averaged weights over t, in (0, 0.5).
    """
    return float((1 - 1 / num_updates) ** (1 / horizon_fraction - 1))


class AveragedWeights:
    """A float32 copy of a model's parameters that follows them; the model itself where the horizon is 0.

    Where parameters are sharded so are their averages, and each worker averages its own shards.
    """

    def __init__(self, model: nn.Module, horizon_fraction: float) -> None:
        """Start to follow `model`.

        Args:
            model: its parameters, shared ones once, are averaged; buffers are not.
            horizon_fraction: mean age of the averaged weights over the steps done, in [0, 0.5); 0 is off.
        """
        self._horizon_fraction = horizon_fraction
        self._parameters = dict(model.named_parameters()) if horizon_fraction > 0 else {}
        self._averages = {
            name: parameter.detach().to(torch.float32, copy=True) for name, parameter in self._parameters.items()
        }

    @property
    def is_on(self) -> bool:
        """False where the horizon is 0, and the averaged weights are the model's own."""
        return bool(self._averages)

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Take in the weights after an optimizer step.

        Args:
            num_updates: optimizer steps done since the start of training, this one included.
        """
        if not self.is_on:
            return
        share = 1 - decay_of_average(num_updates, self._horizon_fraction)
        weights = [local_part(parameter).float() for parameter in self._parameters.values()]
        torch._foreach_lerp_([local_part(average) for average in self._averages.values()], weights, share)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, by parameter name: live tensors, not copies; empty when off."""
        return dict(self._averages)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved state, bit for bit.

        Raises:
            RecordError: the names or shapes are those of another model, or of another horizon (off or on).
        """
        expected = {name: tuple(average.shape) for name, average in self._averages.items()}
        found = shapes_of(tensors)
        if found != expected:
            wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            raise RecordError(
                f"the saved averages do not fit this model: {wrong[0]} is {found.get(wrong[0], 'absent')} there and "
                f"{expected.get(wrong[0], 'absent')} here; continue this trial with the configuration it began with"
            )
        for name, average in self._averages.items():
            load_into(average, tensors, name)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again after, bit for bit, whatever happens."""
        parameters = [local_part(parameter) for parameter in self._parameters.values()]
        own = [parameter.clone() for parameter in parameters]
        for parameter, average in zip(parameters, self._averages.values(), strict=True):
            parameter.copy_(local_part(average))
        try:
            yield
        finally:
            for parameter, weights in zip(parameters, own, strict=True):
                parameter.copy_(weights)
