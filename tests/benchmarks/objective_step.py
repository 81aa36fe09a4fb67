"""One optimizer step of both objectives at equal shape: masked diffusion computes logits at masked positions only.

Attention sees twice as many pairs without a causal mask, and the head about half as many positions: with 257 outputs
the first counts, with 32k the second.
"""

from __future__ import annotations

import argparse
from functools import partial

from bare_loop import BareLoop, random_batch
from harness import Goal, medians_in_turn, publish

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Vocabulary

AR, MDM = "autoregressive", "masked_diffusion"
SHAPES = ((4, 96), (6, 256))
NUM_TEXT_TOKENS = (256, 32_000)
STEPS = 5  # a measured call: the share of masked tokens differs from step to step


def configuration(objective: str, num_layers: int, width: int) -> TrialConfig:
    """16 sequences of 128 tokens a step, AdamW, averaged weights, one thread."""
    return config_from_dotted(
        {
            "data.corpus": "none",
            "data.unique_tokens": 1024,
            "data.sequence_length": 128,
            "model.num_layers": num_layers,
            "model.width": width,
            "objective.name": objective,
            "schedule.epochs": 1,
            "schedule.batch_size": 16,
            "execution.threads": 1,
        }
    )


def step_seconds(num_layers: int, width: int, vocabulary: Vocabulary, repeats: int) -> dict[str, float]:
    """Median seconds of a step by objective, measured in turn."""
    configs = {name: configuration(name, num_layers, width) for name in (AR, MDM)}
    loops = {name: BareLoop(config, vocabulary) for name, config in configs.items()}
    batch = random_batch(configs[AR], vocabulary)

    def steps(loop: BareLoop) -> None:
        for _ in range(STEPS):
            loop.step(batch)

    medians = medians_in_turn({name: partial(steps, loop) for name, loop in loops.items()}, repeats)
    return {name: seconds / STEPS for name, seconds in medians.items()}


def main() -> None:
    """Measure every shape with both vocabularies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    rows, goals = [], []
    for num_layers, width in SHAPES:
        for num_text_tokens in NUM_TEXT_TOKENS:
            vocabulary = Vocabulary(num_text_tokens)
            seconds = step_seconds(num_layers, width, vocabulary, repeats)
            ratio = seconds[MDM] / seconds[AR]
            rows.append(
                {
                    "layers x width": f"{num_layers} x {width}",
                    "outputs": vocabulary.num_output_tokens,
                    "AR step, ms": 1e3 * seconds[AR],
                    "MDM step, ms": 1e3 * seconds[MDM],
                    "MDM / AR": ratio,
                    "repeats": repeats,
                }
            )
            if num_text_tokens >= 32_000:
                goals.append(Goal(f"MDM / AR at {num_layers} x {width}, 32k outputs", ratio, at_most=1.0))
    publish("objective_step", rows, goals)


if __name__ == "__main__":
    main()
