"""What the routers of a mixture do on the same few held-out windows at every evaluation.

Jha et al. (2026, mixtures overfit more to repeated data) read off agreement that routing settles early: 60 % of the
first choices are the last ones by 10 % of training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from crossover.trainers.model.router import observed_routing

if TYPE_CHECKING:
    from crossover.trainers.data import Windows
    from crossover.trainers.model.transformer import Transformer
    from crossover.trainers.objectives import Objective

__all__ = ["NUM_MASKS", "RoutingReport", "probe_windows", "routing_report"]

NUM_MASKS = 1
_NUM_WINDOWS = 16


@dataclass(frozen=True)
class RoutingReport:
    """What the routers of all layers do, averaged over layers.

    Attributes:
        max_load: Choices of the busiest expert over the mean of all; 1 where all are equally busy.
        entropy: Nats of a token's scores as probabilities, at most ln n.
        agreement: Share of the tokens whose first expert is that of the report before; None of the first one.
        choices: First expert of each token [layers, tokens], int32; -1 for padding.
    """

    max_load: float
    entropy: float
    agreement: float | None
    choices: torch.Tensor


def probe_windows(windows: Windows) -> Windows:
    """The windows that are looked at: the first 16."""
    first = slice(0, _NUM_WINDOWS)
    names = ("tokens_WL", "valid_WL", "num_tokens_W", "num_bytes_W", "document_W")
    return replace(windows, **{name: getattr(windows, name)[first] for name in names})


def routing_report(
    model: Transformer, objective: Objective, windows: Windows, seed: int, before: torch.Tensor | None
) -> RoutingReport | None:
    """What the routers do; None of a dense model. Every worker looks at the same windows and finds the same.

    Args:
        model: With the weights to look at; it is in evaluation mode meanwhile.
        objective: Says what the model reads of a window.
        windows: Validation windows.
        seed: Of the masks.
        before: `choices` of the report before.
    """
    if not model.routers:
        return None
    with observed_routing(model) as log:
        objective.window_nats(model, probe_windows(windows), num_masks=NUM_MASKS, seed=seed)
    counts_ME = log.counts
    assert counts_ME is not None
    layers = range(len(model.routers))
    choices = torch.stack([torch.cat([layer[i].first_N for layer in log.passes]) for i in layers]).int().cpu()
    entropy = sum(routed.entropy.item() for layer in log.passes for routed in layer)
    num_choices = (choices >= 0).sum().item()
    same = None if before is None else ((choices == before) & (choices >= 0)).sum().item() / num_choices
    max_load = (counts_ME.amax(1) / counts_ME.mean(1)).mean().item()
    return RoutingReport(max_load, entropy / num_choices, same, choices)
