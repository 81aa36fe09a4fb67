"""Questions and models whose likelihoods can be worked out by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.tasks.likelihood import Continuation


def write_lines(path: Path, *lines: object) -> Path:
    """A tasks file; what is text is written as it stands."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def question(context: str = "ab", endings: Sequence[str] = ("c", "de"), label: object = 0, **fields: object) -> object:
    return {"context": context, "endings": list(endings), "label": label, **fields}


def nats_by_chain(model: Transformer, one: Continuation) -> float:
    """-log p(tokens | context) token by token, a forward pass each, without padding: the chain rule."""
    read, total = [BYTES.begin, *one.context], 0.0
    for token in one.tokens:
        logits_V = model(torch.tensor([read]), causal=True)[0, -1]
        total -= float(logits_V.double().log_softmax(-1)[token])
        read.append(token)
    return total


def bound_by_enumeration(model: Transformer, one: Continuation) -> float:
    """The exact bound: over every subset of the tokens, each size as likely as another."""
    start, num = len(one.context), len(one.tokens)
    total = 0.0
    for size in range(1, num + 1):
        subsets = list(itertools.combinations(range(num), size))
        for subset in subsets:
            read = torch.tensor([[*one.context, *one.tokens]])
            read[0, [start + place for place in subset]] = BYTES.mask
            log_p_LV = model(read, causal=False)[0].double().log_softmax(-1)
            nats = -sum(float(log_p_LV[start + place, one.tokens[place]]) for place in subset)
            total += nats / size / len(subsets)
    return total
