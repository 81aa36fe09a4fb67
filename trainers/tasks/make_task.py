"""A multiple-choice task from any prepared corpus: continue a passage, where the wrong endings are of other documents.

Passages are drawn from held-out documents, so a model that has seen the training split has not read them. Nothing is
downloaded, and the same corpus and seed make the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossover.trainers.data import Corpus, MixedCorpus
from crossover.trainers.data.manifest import SplitName
from crossover.trainers.durable import durable_file, writing
from crossover.trainers.errors import CorpusError
from crossover.trainers.tasks.questions import TaskError

__all__ = ["TaskShape", "make_task"]

_STREAM = 0x7461736B  # keeps these random numbers apart from others drawn with the same seed


@dataclass(frozen=True)
class TaskShape:
    """What the questions look like.

    Args:
        num_questions: questions, as many of each label as can be.
        context_characters: characters that are read.
        ending_characters: characters of each ending.
        num_endings: endings of a question, one of them right.
    """

    num_questions: int = 200
    context_characters: int = 80
    ending_characters: int = 32
    num_endings: int = 4

    @property
    def passage_characters(self) -> int:
        """Characters of context and ending."""
        return self.context_characters + self.ending_characters


def make_task(
    corpus: Corpus | MixedCorpus, output: Path, shape: TaskShape, split: SplitName = "validation", seed: int = 0
) -> None:
    """Writes a tasks file from held-out documents of `corpus`.

    Args:
        corpus: prepared.
        output: file to write; one that is there is refused.
        shape: of the questions.
        split: documents that passages and endings come from.
        seed: of the choice.

    Raises:
        CorpusError: too few documents are as long as a passage.
        TaskError: the file is there already.
    """
    if output.exists():
        raise TaskError(f"output {output} is there already: name another file, or remove it")
    texts = [text for text in _documents(corpus, split) if len(text) >= shape.passage_characters]
    if len(texts) < shape.num_endings:
        raise CorpusError(
            f"corpus {corpus.name} has {len(texts)} {split} documents of {shape.passage_characters} characters or "
            f"more, and {shape.num_endings} endings of different documents are needed: make the passages shorter "
            "(--context-characters, --ending-characters), ask for fewer endings, or take another split"
        )
    lines = [json.dumps(question, ensure_ascii=False) for question in _questions(texts, shape, seed)]
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        durable_file(output, ("\n".join(lines) + "\n").encode())


def _questions(texts: list[str], shape: TaskShape, seed: int) -> Iterator[dict[str, object]]:
    random = np.random.default_rng([seed, _STREAM])
    weights = np.array([len(text) - shape.passage_characters + 1 for text in texts], dtype=np.float64)
    for number in range(shape.num_questions):
        own = int(random.choice(len(texts), p=weights / weights.sum()))  # each place of each document alike
        passage = _cut(texts[own], shape.passage_characters, random)
        others = [place for place in range(len(texts)) if place != own]
        wrong = [
            _cut(texts[place], shape.ending_characters, random)
            for place in random.choice(others, shape.num_endings - 1, replace=False)
        ]
        label = number % shape.num_endings
        right = passage[shape.context_characters :]
        yield {
            "context": passage[: shape.context_characters],
            "endings": [*wrong[:label], right, *wrong[label:]],
            "label": label,
            "separator": "",
        }


def _cut(text: str, length: int, random: np.random.Generator) -> str:
    start = int(random.integers(len(text) - length + 1))
    return text[start : start + length]


def _documents(corpus: Corpus | MixedCorpus, split: SplitName) -> Iterator[str]:
    for part in corpus.parts:
        tokens, tokenizer = part.corpus.split(split), part.corpus.tokenizer
        offsets = tokens.document_offsets
        for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            yield tokenizer.decode(tokens.read(start, stop)).decode(errors="replace")
