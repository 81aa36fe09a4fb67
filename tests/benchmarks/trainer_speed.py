"""Training tokens a second on a CPU, against `transformers`' Llama of the same shape with SDPA.

Each side takes whole steps: forward, backward, clipping, fused AdamW; ours averages its weights as well. `transformers`
in its default float32, and in bfloat16 autocast; ours as `execution.precision: auto` has it, and compiled at one shape.
Ours has QK-norm, which Llama lacks; Llama's loss is next-token prediction without a begin token.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bare_loop import BareLoop, random_batch
from harness import Goal, medians_in_turn, publish

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data import Batch, Vocabulary
from crossover.trainers.model.shapes import ModelShape

AR, MDM, THEIRS = "autoregressive", "masked_diffusion", "transformers"
SHAPES = {"1M": (4, 128), "5M": (6, 256), "50M": (12, 576)}  # layers, width: parameters without head and table
NUM_TEXT_TOKENS = {"257": 256, "32k": 32_000}
LENGTH = 256
BATCH_SIZE = 16
COMPILED_AT = ("5M", "257")
GOALS = {AR: 1.6, MDM: 2.2}  # over transformers in float32, at 5M and 32k
Step = Callable[[], object]


def configuration(objective: str, size: str, threads: int, compiled: bool = False) -> TrialConfig:
    """16 sequences of 256 tokens a step."""
    num_layers, width = SHAPES[size]
    return config_from_dotted(
        {
            "data.corpus": "none",
            "data.unique_tokens": LENGTH,
            "data.sequence_length": LENGTH,
            "model.num_layers": num_layers,
            "model.width": width,
            "objective.name": objective,
            "schedule.epochs": 1,
            "schedule.batch_size": BATCH_SIZE,
            "execution.threads": threads,
            "execution.compile": "on" if compiled else "off",
        }
    )


def our_step(config: TrialConfig, vocabulary: Vocabulary, batch: Batch) -> Step:
    """A step of ours."""
    loop = BareLoop(config, vocabulary)
    return lambda: loop.step(batch)


def their_step(shape: ModelShape, batch: Batch, bfloat16: bool) -> Step:
    """A step as one writes it with `transformers`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.num_output_tokens,
            hidden_size=shape.width,
            intermediate_size=shape.mlp_width,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=False,
            use_cache=False,
            attn_implementation="sdpa",
            dtype=torch.float32,
        )
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(input_ids=batch.tokens_BL, labels=batch.tokens_BL).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def steps_of(size: str, vocabulary: Vocabulary, threads: int, compiled: bool) -> Iterator[tuple[str, Step]]:
    """Every side, by name."""
    ours = configuration(AR, size, threads)
    batch = random_batch(ours, vocabulary)
    shape = BareLoop(ours, vocabulary).shape
    yield f"{THEIRS} float32", their_step(shape, batch, bfloat16=False)
    yield f"{THEIRS} bfloat16", their_step(shape, batch, bfloat16=True)
    for objective in (AR, MDM):
        yield objective, our_step(configuration(objective, size, threads), vocabulary, batch)
        if compiled:
            config = configuration(objective, size, threads, compiled=True)
            yield f"{objective}, compiled", our_step(config, vocabulary, batch)


def speeds(size: str, outputs: str, threads: int, repeats: int, compiled: bool) -> dict[str, float]:
    """Tokens a second of every side, measured in turn."""
    steps = dict(steps_of(size, Vocabulary(NUM_TEXT_TOKENS[outputs]), threads, compiled))
    return {
        name: BATCH_SIZE * LENGTH / seconds for name, seconds in medians_in_turn(steps, repeats, warm_ups=2).items()
    }


def goals_of(size: str, outputs: str, speed: dict[str, float]) -> Iterator[Goal]:
    """What is asked of both objectives at one shape."""
    for objective in (AR, MDM):
        at = f"{objective} at {size}, {outputs} outputs"
        yield Goal(f"{at}, over transformers bfloat16", speed[objective] / speed[f"{THEIRS} bfloat16"], at_least=1.0)
        if (size, outputs) == ("5M", "32k"):
            ratio = speed[objective] / speed[f"{THEIRS} float32"]
            yield Goal(f"{at}, over transformers float32", ratio, at_least=GOALS[objective])


def main() -> None:
    """Measure every shape with both vocabularies."""
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="steps of each side, of which the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    goals: list[Goal] = []
    for size, outputs in itertools.product(options.sizes, NUM_TEXT_TOKENS):
        compiled = (size, outputs) == COMPILED_AT and not options.no_compile
        speed = speeds(size, outputs, options.threads, options.repeats, compiled)
        rows.extend(
            {
                "size": size,
                "outputs": outputs,
                "side": name if name.startswith(THEIRS) else f"ours, {name}",
                "tokens/s": tokens_per_second,
                "/ float32": tokens_per_second / speed[f"{THEIRS} float32"],
                "/ bfloat16": tokens_per_second / speed[f"{THEIRS} bfloat16"],
                "threads": options.threads,
                "repeats": options.repeats,
                "transformers": transformers.__version__,
            }
            for name, tokens_per_second in speed.items()
        )
        goals.extend(goals_of(size, outputs, speed))
    publish("trainer_speed", rows, goals)


if __name__ == "__main__":
    main()
