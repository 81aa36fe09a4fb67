"""`open_model`: a trained model from its folder, ready to be scored, sampled from or exported.

A checkpoint is a trial's record or the folder of `crossover train`: the averaged weights of its best evaluation, and
the facts that say what they are. A corpus of bytes need not be there any more; of another one the tokenizer is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from crossover.trainers.checkpoint import load_into, shapes_of
from crossover.trainers.config import ExecutionConfig, TrialConfig, describe_validation_error
from crossover.trainers.data import Vocabulary, open_corpus
from crossover.trainers.data.tokenizers import ByteTokenizer, Tokenizer
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.device import Runtime, resolve
from crossover.trainers.errors import CorpusError, RecordError
from crossover.trainers.model.shapes import ModelShape, shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives import Objective, build
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import TrialFacts
from crossover.trainers.shards import SavedTensors

__all__ = ["TrainedModel", "open_model"]

_EMBEDDING = "embedding.weight"


@dataclass(frozen=True)
class TrainedModel:
    """A model with what it takes to use it.

    Args:
        path: its folder.
        facts: what was known when training started.
        config: how it was trained.
        shape: of the model.
        tokenizer: text to ids.
        vocabulary: ids that it reads and predicts.
        objective: what it was trained for: how it is scored.
        model: averaged weights of the best evaluation, in evaluation mode.
        runtime: where it computes; its autocast is the caller's to enter.
    """

    path: Path
    facts: TrialFacts
    config: TrialConfig
    shape: ModelShape
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    objective: Objective
    model: Transformer
    runtime: Runtime

    @property
    def context_tokens(self) -> int:
        """Most tokens of a sequence: those it was trained on."""
        return self.config.data.sequence_length

    @property
    def name(self) -> str:
        """What to call it: the identity of its trial."""
        return self.facts.trial_id

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self.tokenizer.encode([text.encode()])[0].tolist()
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids; a separator is left out, and bytes that are no text become U+FFFD."""
        text_tokens = [token for token in tokens if token < self.vocabulary.num_text_tokens]
        return self.tokenizer.decode(np.array(text_tokens, dtype=np.uint32)).decode(errors="replace")


def open_model(path: Path, execution: ExecutionConfig | None = None) -> TrainedModel:
    """Opens the best weights of a trained model.

    Args:
        path: a trial's folder (runs/STUDY/trials/ID), or the folder of `crossover train`.
        execution: device, precision and threads; None: what this machine has.

    Raises:
        RecordError: there is no trained model in that folder, or it is damaged, or it has another tokenizer.
        ConfigError: the device or the precision is not to be had.
    """
    facts = _facts(path)
    config = _config(path, facts)
    weights = SavedTensors([TrialRecord(path).best_weights()])
    tokenizer = _tokenizer(path, facts, shapes_of(weights).get(_EMBEDDING, (0,))[0])
    vocabulary = Vocabulary(tokenizer.num_text_tokens)
    shape = shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    model = Transformer(shape, config.regularization)
    _load(model, weights, path)
    runtime = resolve(execution or ExecutionConfig(compile="off"), shape.num_params_active)
    return TrainedModel(
        path=path,
        facts=facts,
        config=config,
        shape=shape,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        objective=build(config, vocabulary),
        model=model.eval().requires_grad_(False).to(runtime.device),
        runtime=runtime,
    )


def _facts(path: Path) -> TrialFacts:
    if not path.is_dir():
        raise RecordError(f"there is no checkpoint at {path}: name a trial's folder, as runs/quickstart/trials/ID")
    if (path / "study.yaml").exists() and (path / "trials").is_dir():
        raise RecordError(
            f"{path} is a whole study: name one of its trials, as {path}/trials/ID (crossover results {path} lists "
            "them with their losses)"
        )
    facts = TrialRecord(path).facts()
    if facts is None:
        raise RecordError(
            f"{path} is no checkpoint (there is no trial.json in it): name a trial's folder, or that of a run of "
            "crossover train"
        )
    return facts


def _config(path: Path, facts: TrialFacts) -> TrialConfig:
    try:
        return TrialConfig.model_validate(facts.config)
    except ValidationError as error:
        raise RecordError(
            f"the configuration in {path}/trial.json cannot be read by this release "
            f"({describe_validation_error(error)}): use the release that trained it"
        ) from None


def _tokenizer(path: Path, facts: TrialFacts, num_rows: int) -> Tokenizer:
    """Bytes, or that of the corpus that the model was trained on; its table of inputs has a row for each id."""
    if num_rows == BYTES.num_input_tokens:
        return ByteTokenizer()
    try:
        tokenizer = open_corpus(facts.corpus).tokenizer
    except CorpusError as error:
        raise RecordError(
            f"{path} was trained with another tokenizer than bytes, which lies in its corpus, and that cannot be "
            f"opened: {error}"
        ) from None
    expected = Vocabulary(tokenizer.num_text_tokens).num_input_tokens
    if num_rows != expected:
        raise RecordError(
            f"{path} reads {num_rows:,} token ids, and the tokenizer of corpus {facts.corpus} has {expected:,} with "
            "separator, begin and mask: it was trained with another tokenizer; put the corpus that it was trained on "
            "back in its place"
        )
    return tokenizer


def _load(model: Transformer, saved: SavedTensors, path: Path) -> None:
    parameters = model.weights()
    shapes, expected = shapes_of(saved), shapes_of(parameters)
    if shapes != expected:
        differing = sorted(set(shapes.items()) ^ set(expected.items()))[0][0]
        raise RecordError(f"{path} is not the model that its trial.json describes: {differing} differs")
    with torch.no_grad():
        for name, parameter in parameters.items():
            load_into(parameter, saved, name)
