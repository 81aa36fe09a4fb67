"""Optimizer steps on one GPU: tokens a second, share of its peak (MFU), and memory.

A dense model of 1B, and a mixture of 8 experts, 2 a token, with 0.7B active of 1.9B parameters: all that fits 80 GB
unsharded, with float32 weights, gradients, moments and averages.

MFU is by the FLOPs that the algorithm needs: causal scores once, logits at masked positions only, nothing for what is
computed again. A batch of 16 sequences of 2,048 tokens takes 69 GB. Heads are 128 wide, and the outputs a multiple of
64, as tensor cores like them. Ray is not needed:
`PYTHONPATH=build/types python tests/benchmarks/gpu_step.py` runs where only the trainers' dependencies are installed.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from bare_loop import BareLoop, random_batch
from harness import Goal, medians_in_turn, publish

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Vocabulary
from crossover.trainers.device import peak_memory_bytes
from crossover.trainers.flops import device_peak_flops, mfu, training_flops_per_token

OBJECTIVES = ("autoregressive", "masked_diffusion")
WIDTH, HEADS = 2048, 16
NUM_LAYERS = {"dense": 18, "experts": 12}
BATCH_SIZE = {"dense": 16, "experts": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "dense": {},
    "experts": {"model.num_experts": 8, "model.granularity": 2, "model.experts_per_token": 2},
}
GOALS = {"dense": 0.5, "experts": 0.35}


def configuration(model: str, objective: str, options: argparse.Namespace) -> TrialConfig:
    """A model of width 2048 in bfloat16."""
    return config_from_dotted(
        {
            "data.corpus": "none",
            "data.unique_tokens": options.length,
            "data.sequence_length": options.length,
            "model.num_layers": options.layers or NUM_LAYERS[model],
            "model.width": WIDTH,
            "model.num_heads": HEADS,
            **SETTINGS[model],
            "objective.name": objective,
            "schedule.epochs": 1,
            "schedule.batch_size": options.batch_size or BATCH_SIZE[model],
            "execution.device": "cuda",
            "execution.precision": "bfloat16",
            "execution.compile": options.compile,
            "execution.activation_checkpointing": options.activation_checkpointing,
        }
    )


def measured(model: str, objective: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: the median of groups of steps, each waited for at its end."""
    config, vocabulary = configuration(model, objective, options), Vocabulary(options.text_tokens)
    torch.cuda.empty_cache()
    loop, batch = BareLoop(config, vocabulary), random_batch(config, vocabulary)

    def steps() -> None:
        for _ in range(options.steps):
            loop.step(batch)
        torch.cuda.synchronize()

    seconds = medians_in_turn({"": steps}, options.repeats, warm_ups=2)[""] / options.steps
    tokens_per_second = batch.num_tokens / seconds
    flops_per_token = training_flops_per_token(loop.shape, loop.objective, options.length)
    name = loop.runtime.description
    return {
        "model": model,
        "objective": objective,
        "device": name,
        "active": loop.shape.num_params_active,
        "total": loop.shape.num_params_total,
        "outputs": vocabulary.num_output_tokens,
        "batch": f"{config.schedule.batch_size} x {options.length}",
        "compile": options.compile,
        "recomputed": options.activation_checkpointing,
        "step, ms": 1e3 * seconds,
        "tokens/s": tokens_per_second,
        "MFU": mfu(flops_per_token, tokens_per_second, device_peak_flops(name, "bfloat16")),
        "peak memory, GB": peak_memory_bytes(loop.runtime.device) / 1e9,
        "repeats": options.repeats,
    }


def main() -> None:
    """Measure every model with both objectives, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--layers", type=int, help="instead of 18 of the dense model and 12 of the mixture")
    parser.add_argument("--batch-size", type=int, help="sequences a step; 16 of the dense model, 8 of the mixture")
    parser.add_argument("--length", type=int, default=2048, help="tokens a sequence")
    parser.add_argument("--text-tokens", type=int, default=50_303, help="vocabulary without the separator")
    parser.add_argument("--compile", choices=("on", "off"), default="on")
    parser.add_argument("--activation-checkpointing", choices=("none", "selective", "full"), default="none")
    parser.add_argument("--steps", type=int, default=5, help="steps of a measured group")
    parser.add_argument("--repeats", type=int, default=5, help="groups, of which the median counts")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_step needs a CUDA device, and torch sees none")
    rows = [measured(model, objective, options) for model in options.models for objective in OBJECTIVES]
    goals = [
        Goal(f"MFU, {row['model']}, {row['objective']}", row["MFU"], at_least=GOALS[row["model"]])
        for row in rows
        if row["MFU"] is not None
    ]
    publish("gpu_step", rows, goals)


if __name__ == "__main__":
    main()
