"""A step of Muon on whole matrices against one of `torch.optim.Muon` on the same matrices and gradients, on a CPU."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from harness import Goal, medians_in_turn, publish

from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.muon import WholeMuon

SIZES = ("400k", "1M", "5M")
SETTINGS: dict[str, float] = {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95}


def matrices_of(size: str) -> list[torch.nn.Parameter]:
    """Hidden matrices of a model, with gradients."""
    model = Transformer(shape_of(ModelConfig(size=size), 259, 257), RegularizationConfig())
    hidden = [parameter for parameter in model.blocks.parameters() if parameter.ndim == 2]
    for parameter in hidden:
        parameter.grad = torch.randn_like(parameter)
    return hidden


def measured(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both optimizers, in turn."""
    torch.manual_seed(0)
    ours, theirs = matrices_of(size), matrices_of(size)
    steps = {
        "ours": WholeMuon(ours, **SETTINGS).step,
        "torch": torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **SETTINGS).step,
    }
    seconds = medians_in_turn(steps, options.repeats, warm_ups=2)
    return {
        "size": size,
        "matrices": len(ours),
        "torch.optim.Muon, ms": 1e3 * seconds["torch"],
        "Muon, ms": 1e3 * seconds["ours"],
        "ratio": seconds["ours"] / seconds["torch"],
        "threads": options.threads,
        "repeats": options.repeats,
    }


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measured(size, options) for size in SIZES]
    publish("muon_step", rows, [Goal(f"{row['size']}: Muon over torch's", row["ratio"], at_most=1.05) for row in rows])


if __name__ == "__main__":
    main()
