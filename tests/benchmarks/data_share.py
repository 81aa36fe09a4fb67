"""Time of reading a batch as a share of the training step that uses it."""

from __future__ import annotations

import argparse
import itertools

from bare_loop import BareLoop
from harness import Goal, medians_in_turn, publish
from objective_step import configuration

from crossover.trainers.data import TrainingSubset, open_corpus

NUM_LAYERS, WIDTH = 4, 96  # the smallest model that a study trains, and so the shortest step
UNIQUE_TOKENS = (24_576, 1_048_576)
CALLS = 20


def measure(unique_tokens: int, repeats: int) -> dict[str, float]:
    """Median seconds of one batch and of one step without it, measured in turn."""
    corpus = open_corpus("python-stdlib")
    config = configuration("autoregressive", NUM_LAYERS, WIDTH)
    subset = TrainingSubset(corpus, unique_tokens, config.data.sequence_length, seed=0)
    loop = BareLoop(config, corpus.vocabulary)
    size = config.schedule.batch_size
    cursors = itertools.count(step=size)
    batch = subset.batch(0, size, 0)

    def read() -> None:
        for _ in range(CALLS):
            subset.batch(next(cursors), size, 0)

    def train() -> None:
        for _ in range(CALLS):
            loop.step(batch)

    medians = medians_in_turn({"batch": read, "step": train}, repeats)
    return {name: seconds / CALLS for name, seconds in medians.items()}


def main() -> None:
    """Measure a small and a large subset, at the start of training and over many epochs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    rows, goals = [], []
    for unique_tokens in UNIQUE_TOKENS:
        seconds = measure(unique_tokens, repeats)
        share = seconds["batch"] / (seconds["batch"] + seconds["step"])
        rows.append(
            {
                "unique tokens": f"{unique_tokens:,}",
                "batch, ms": 1e3 * seconds["batch"],
                "step, ms": 1e3 * seconds["step"],
                "share of the step": share,
                "repeats": repeats,
            }
        )
        goals.append(Goal(f"share at U = {unique_tokens:,}", share, at_most=0.01))
    publish("data_share", rows, goals)


if __name__ == "__main__":
    main()
