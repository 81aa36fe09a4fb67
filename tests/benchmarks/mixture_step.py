"""A training step of a mixture of experts against one of the dense model of equal active parameters, on a CPU.

5M active parameters, 8 experts of which a token uses 2 and so half of the dense hidden width each; 16 sequences of 256
tokens; bfloat16. A step is forward, backward, clipping, fused AdamW, averaged weights, and the experts' balance. The
mixture has 2.9 times the parameters in all, which clipping, AdamW and the averages go through.
"""

from __future__ import annotations

import argparse
from typing import Any

from bare_loop import BareLoop, random_batch
from harness import Goal, medians_in_turn, publish

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Vocabulary
from crossover.trainers.flops import training_flops_per_token

OBJECTIVES = ("autoregressive", "masked_diffusion")
EXPERTS = {"model.num_experts": 8, "model.granularity": 2}
MODELS: dict[str, dict[str, Any]] = {
    "dense": EXPERTS | {"model.dense_control": "active"},
    "token choice": EXPERTS,
    "token choice, bias": EXPERTS | {"model.balancing": "bias"},
    "expert choice": EXPERTS | {"model.routing": "expert_choice"},
}
GOAL = 1.6


def configuration(model: str, objective: str, options: argparse.Namespace) -> TrialConfig:
    """6 layers of width 256."""
    return config_from_dotted(
        {
            "data.corpus": "none",
            "data.unique_tokens": options.length,
            "data.sequence_length": options.length,
            "model.num_layers": 6,
            "model.width": 256,
            **MODELS[model],
            "objective.name": objective,
            "schedule.epochs": 1,
            "schedule.batch_size": options.batch_size,
            "execution.threads": options.threads,
            "execution.precision": "bfloat16",
            "execution.compile": options.compile,
        }
    )


def measured(objective: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a model, measured in turn."""
    vocabulary, loops, steps = Vocabulary(256), {}, {}
    for model in MODELS:
        if model == "expert choice" and objective == "autoregressive":
            continue
        config = configuration(model, objective, options)
        batch = random_batch(config, vocabulary)
        loops[model] = BareLoop(config, vocabulary)
        steps[model] = lambda loop=loops[model], batch=batch: loop.step(batch)
    seconds = medians_in_turn(steps, options.repeats, warm_ups=3)
    return [
        {
            "objective": objective,
            "model": model,
            "active": loop.shape.num_params_active,
            "total": loop.shape.num_params_total,
            "GFLOP a step": 1e-9
            * batch.num_tokens
            * training_flops_per_token(loop.shape, loop.objective, options.length),
            "step, ms": 1e3 * seconds[model],
            "/ dense": seconds[model] / seconds["dense"],
            "threads": options.threads,
            "repeats": options.repeats,
        }
        for model, loop in loops.items()
    ]


def main() -> None:
    """Measure both objectives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="steps of each model, of which the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16, help="sequences a step")
    parser.add_argument("--length", type=int, default=256, help="tokens a sequence")
    parser.add_argument("--compile", choices=("on", "off"), default="off")
    options = parser.parse_args()
    rows = [row for objective in OBJECTIVES for row in measured(objective, options)]
    goals = [
        Goal(f"{row['model']}, {row['objective']}, over dense", row["/ dense"], at_most=GOAL)
        for row in rows
        if row["model"] != "dense"
    ]
    publish("mixture_step", rows, goals)


if __name__ == "__main__":
    main()
