"""`crossover sample`: text from checkpoints, and what it costs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossover.trainers.generation.base import GenerationSettings
from crossover.trainers.generation.sampling import Sampled, sample_from
from crossover.trainers.trained import open_model

__all__ = ["sample_checkpoints"]


def sample_checkpoints(
    paths: Sequence[Path],
    prompt: str,
    num_sequences: int,
    settings: GenerationSettings,
    *,
    as_json: bool,
    console: Console | None = None,
) -> None:
    """Continues a prompt with each model, and prints the texts and a table of their costs.

    Args:
        paths: folders of trials or runs.
        prompt: text; may be empty.
        num_sequences: texts of each model.
        settings: how tokens are chosen.
        as_json: print JSON.
        console: where to print; by default standard output.

    Raises:
        CrossoverError: there is no model, or it cannot be asked this.
    """
    settings.check()
    out = console or Console(highlight=False)
    models = [open_model(path) for path in paths]
    found = [sample_from(model, prompt, num_sequences, settings) for model in models]
    if as_json:
        out.print_json(json.dumps([one.summary() for one in found]))
        return
    for one in found:
        for text in one.texts:
            out.rule(f"{one.objective} {one.name}", align="left", characters="-")
            out.print(Text(prompt, style="dim") + Text(text))
    out.print(_table(found))


def _table(found: Sequence[Sampled]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "objective"):
        table.add_column(name)
    for name in ("tokens", "passes a token", "tokens/s", "FLOPs a token"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            one.name,
            one.objective,
            f"{one.num_tokens:,}",
            f"{one.num_passes / one.num_tokens:.2f}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.flops_per_token:.3g}",
        )
    return table
