"""What an objective is, and the registry of all of them.

A new objective is one file with one `@register` class, imported by the package; nothing else asks which one it is.

Shape suffixes: B batch, L sequence, D model, V vocabulary, W windows, M masks, N chosen positions.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from crossover.trainers.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossover.trainers.config import TrialConfig
    from crossover.trainers.data import Batch, Vocabulary, Windows

__all__ = [
    "LanguageModel",
    "LossSum",
    "Objective",
    "WindowNats",
    "build",
    "chosen_states",
    "evaluating",
    "get",
    "names",
    "register",
    "scored_places",
    "to_device",
]

_TILE = 128  # rows of the head's matrix product


class LanguageModel(Protocol):
    """What an objective asks of a model; `Transformer` is one."""

    training: bool

    @property
    def device(self) -> torch.device:
        """Where tokens are to be."""

    def hidden(
        self,
        tokens_BL: Tensor,
        *,
        causal: bool,
        valid_BL: Tensor | None = None,
        visible_LL: Tensor | None = None,
        positions_L: Tensor | None = None,
    ) -> Tensor:
        """Hidden states h_BLD of input tokens."""

    def nats(self, h_ND: Tensor, tokens_N: Tensor) -> Tensor:
        """-log p of each token [N], float32; rows of h_ND beyond the tokens are computed and dropped."""

    def nats_sum(self, h_ND: Tensor, tokens_N: Tensor, scale_N: Tensor | None = None) -> Tensor:
        """Sum over tokens of scale times -log p, float32 with gradient; rows of h_ND beyond the tokens are dropped."""

    def train(self, mode: bool = True) -> object:
        """Switches dropout on or off."""


@dataclass(frozen=True)
class LossSum:
    """A training loss before it is normalized: a step divides by the tokens of its whole global batch.

    Attributes:
        nats: Scalar float32 with gradient, the sum over the rows that were computed.
        num_tokens: Valid tokens of these rows.
        auxiliary_nats: What is minimized beside `nats` and not reported, weighted; None: nothing.
    """

    nats: Tensor
    num_tokens: int
    auxiliary_nats: Tensor | None = None


@dataclass(frozen=True)
class WindowNats:
    """What each window cost under each mask.

    Attributes:
        nats_WM: float64 [W, M], nats of the whole window; M is 1 for an exact likelihood. The mean over M estimates
            the window's NLL, or its upper bound (ELBO).
        num_masked_WM: int64 [W, M], how many tokens each mask hid; None for an exact likelihood.
        weight_WM: float64 [W, M], what the mean of its tokens counts in a mask's estimate, 1 on average over masks;
            None: 1 everywhere.
        control_W: float64 [W], what each estimate holds that no mask changes; None: nothing.
    """

    nats_WM: NDArray[np.float64]
    num_masked_WM: NDArray[np.int64] | None = None
    weight_WM: NDArray[np.float64] | None = None
    control_W: NDArray[np.float64] | None = None

    @property
    def weights(self) -> NDArray[np.float64]:
        """`weight_WM`, 1 where there is none."""
        return np.ones_like(self.nats_WM) if self.weight_WM is None else self.weight_WM

    @property
    def changed_by_masks(self) -> NDArray[np.float64]:
        """`nats_WM` without what no mask changes."""
        return self.nats_WM if self.control_W is None else self.nats_WM - self.control_W[:, None]


class Objective(ABC):
    """One way to train and to score a model.

    Attributes:
        name: Its name in a configuration.
        causal: Whether attention is causal.
        sees_everything: Whether every position may know of every input token.
        is_bound: Whether `window_nats` estimates an upper bound (ELBO), not the exact NLL.
        settings: Names in the objective's section of a configuration that it reads.
    """

    name: ClassVar[str]
    causal: ClassVar[bool]
    sees_everything: ClassVar[bool]
    is_bound: ClassVar[bool]
    settings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def from_config(cls, config: TrialConfig, vocabulary: Vocabulary) -> Self:
        """The objective with the settings that are its own."""

    @abstractmethod
    def training_loss(
        self, model: LanguageModel, batch: Batch, generator: torch.Generator, rows: slice | None = None
    ) -> LossSum:
        """The loss of a step, or of one worker's share of it.

        Args:
            model: In training mode.
            batch: The global batch, the same on every worker.
            generator: CPU generator of this step: all of a step's noise is drawn from it, for the global batch, so
                that it is the same at every world size and on every device. Give each call of one step, as in gradient
                accumulation, a generator in the same state.
            rows: Sequences of the batch to compute; None: all.
        """

    @abstractmethod
    def window_nats(
        self,
        model: LanguageModel,
        windows: Windows,
        *,
        num_masks: int,
        seed: int,
        batch_size: int = 64,
        rank: int = 0,
        world_size: int = 1,
        given_W: NDArray[np.int64] | None = None,
    ) -> WindowNats:
        """The cost of every window, in evaluation mode and without gradient; the model's mode is restored.

        Enter autocast inside of the caller's training context only by a context of its own: weights that autocast has
        cached here carry no gradient.

        Args:
            model: Any model.
            windows: Held-out windows; padding is neither attended nor counted.
            num_masks: Monte-Carlo masks M a window; an exact objective has one column whatever it is.
            seed: Seed of the masks: the same ones for every model, batch size and world size.
            batch_size: Most sequences a forward pass of a worker.
            rank: This worker. All workers make the same number of forward passes.
            world_size: Workers, each of which scores its share of the rows. The others' rows are 0.0 in the result:
                the sum over the workers is the result of one.
            given_W: Leading tokens of each window that are only read: the cost is that of what follows them, given
                them, at least one token. None: nothing is given.
        """

    @property
    def training_passes(self) -> int:
        """Forward and backward passes of a training step over its tokens."""
        return 1

    @property
    def inputs_per_token(self) -> float:
        """Positions that a pass computes for each token of a sequence."""
        return 1.0

    def keys_per_input(self, length: int) -> float:
        """Positions that each of them attends to, on average over a sequence of that length."""
        return (length + 1) / 2 if self.causal else length

    @property
    @abstractmethod
    def training_head_fraction(self) -> float:
        """Expected share of trained tokens whose logits are computed."""

    @abstractmethod
    def evaluation_head_fraction(self, num_tokens: int) -> float:
        """Expected share of tokens whose logits `window_nats` computes, for a window of so many tokens."""

    @abstractmethod
    def evaluation_passes(self, num_masks: int) -> int:
        """Forward passes a window."""


_REGISTRY: dict[str, type[Objective]] = {}

ObjectiveClass = TypeVar("ObjectiveClass", bound=type[Objective])


def register(objective: ObjectiveClass) -> ObjectiveClass:
    """Class decorator: enters an objective under its name."""
    assert objective.name not in _REGISTRY, objective.name
    _REGISTRY[objective.name] = objective
    return objective


def names() -> list[str]:
    """Registered objectives, sorted."""
    return sorted(_REGISTRY)


def get(name: str) -> type[Objective]:
    """The objective of that name.

    Raises:
        ConfigError: there is none; the message lists those that are, and the near one.
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"objective.name is {name!r}, which is not registered: {hint}Set one of {', '.join(names())}")
    return _REGISTRY[name]


def build(config: TrialConfig, vocabulary: Vocabulary) -> Objective:
    """The objective that a configuration names, with its settings.

    Raises:
        ConfigError: it is not registered, or its attention and the model's routing do not go together.
    """
    objective = get(config.objective.name)
    if config.model.routing == "expert_choice" and not objective.sees_everything:
        raise ConfigError(
            f"model.routing is expert_choice, but objective.name is {objective.name}: an expert that chooses among all "
            "tokens of a sequence tells a token about those that it must not see, and the loss would leak the future. "
            "Set model.routing to token_choice, or objective.name to "
            + " or ".join(name for name in names() if get(name).sees_everything)
        )
    return objective.from_config(config, vocabulary)


def chosen_states(h_BLD: Tensor, tokens_BL: Tensor, chosen_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states h_ND and targets [N] of the chosen tokens, row by row: logits are computed for these only.

    Args:
        h_BLD: Hidden states that predict the token at their own place.
        tokens_BL: Targets.
        chosen_BL: Boolean, on the CPU; all of it chosen costs no gathering.

    Returns:
        The states, filled up to whole tiles, and the targets, on the device of the states.
    """
    h_ND, tokens_N = h_BLD.flatten(0, 1), tokens_BL.flatten()
    if not chosen_BL.all():
        places_N = chosen_BL.flatten().nonzero().squeeze(1)
        h_ND, tokens_N = h_ND.index_select(0, to_device(_in_whole_tiles(places_N), h_ND.device)), tokens_N[places_N]
    return h_ND, to_device(tokens_N, h_ND.device)


def scored_places(windows: Windows, given_W: NDArray[np.int64] | None) -> Tensor:
    """Which places of each window are scored, bool [W, L]: those that are valid and not given."""
    if given_W is None:
        return windows.valid_WL
    return windows.valid_WL & (torch.arange(windows.valid_WL.shape[1]) >= torch.from_numpy(given_W)[:, None])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on the device; a GPU does not wait for it, and the CPU does not wait for the GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _in_whole_tiles(places_N: Tensor) -> Tensor:
    """Places, the last one repeated up to a multiple of 128, whose logits nobody reads.

    The number of masked tokens differs from step to step, and oneDNN compiles and keeps a kernel for each number of
    rows: without this a run of 400 steps took 540 MB more memory and 12 % more time. FLOPs are counted without them.
    """
    missing = -len(places_N) % _TILE
    return torch.cat([places_N, places_N[-1:].expand(missing)]) if missing else places_N


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode without gradients; the mode is restored.

    Not torch's inference mode: FSDP keeps the tensors that it gathers weights into, and training needs them after.
    """
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
