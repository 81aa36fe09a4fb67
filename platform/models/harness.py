"""lm-evaluation-harness on any checkpoint: its requests are mapped to our likelihoods and generators.

`crossover lm-eval ...` is its own command line with the model `crossover` known to it; in Python,
`harness_model("runs/STUDY/trials/ID")` goes to `lm_eval.simple_evaluate(model=...)`. The library is the extra `eval`:
it brings forty packages, so nothing else needs it.
"""

from __future__ import annotations

import importlib
import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossover.trainers.config import ExecutionConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.generation import GenerationSettings, generator_of
from crossover.trainers.generation.base import until_separator
from crossover.trainers.tasks.likelihood import Continuation, continuation_nats
from crossover.trainers.tasks.questions import TaskError
from crossover.trainers.trained import TrainedModel, open_model

__all__ = ["HarnessRequests", "harness_model", "run_harness"]

_NAME = "crossover"
_GENERATED_TOKENS = 64


class HarnessRequests:
    """Answers the harness's three kinds of requests.

    For masked diffusion every likelihood is a bound by `num_masks` masks.

    Args:
        checkpoint: folder of a trial or run.
        num_masks: Monte-Carlo masks a continuation of several tokens, for bounds.
        seed: of masks and samples.
        device: cpu, or anything else for the GPU where there is one (the harness says cuda:0 by default).
        batch_size, max_batch_size: taken because the harness gives them; batches are cut by their tokens.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        num_masks: int = 32,
        seed: int = 0,
        device: str | None = None,
        batch_size: object = None,
        max_batch_size: object = None,
    ) -> None:
        super().__init__()
        execution = ExecutionConfig(device="cpu" if device == "cpu" else "auto", compile="off")
        self.trained: TrainedModel = open_model(Path(checkpoint), execution)
        self.num_masks, self.seed = int(num_masks), int(seed)

    @property
    def tokenizer_name(self) -> str:
        """By which the harness knows cached requests."""
        return f"{_NAME}-{self.trained.facts.data_hash[:16]}"

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """log p(continuation | context), and whether greedy generation gives it.

        Greedy generation is asked for only where a document has one request; of several options the harness reads the
        likelihoods alone, and for them it says False.
        """
        continuations = [self._continuation(*request.args) for request in requests]
        documents = [(request.task_name, request.doc_id) for request in requests]
        num_of = Counter(documents)
        alone = [place for place, document in enumerate(documents) if num_of[document] == 1]
        with self.trained.runtime.autocast():
            nats_O = self._nats(continuations)
            reproduced = self._generator.reproduces([continuations[place] for place in alone]) if alone else []
        greedy = dict(zip(alone, reproduced, strict=True))
        return [(-float(nats), greedy.get(place, False)) for place, nats in enumerate(nats_O)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, cut into sequences of the model's length, as Crossover scores held-out text."""
        length, pieces, text_of_piece = self.trained.context_tokens, [], []
        for number, request in enumerate(requests):
            tokens = self.trained.encode(request.args[0])
            for start in range(0, len(tokens), length):
                pieces.append(Continuation([], tokens[start : start + length]))
                text_of_piece.append(number)
        totals = [0.0] * len(requests)
        with self.trained.runtime.autocast():
            for number, nats in zip(text_of_piece, self._nats(pieces), strict=True):
                totals[number] -= float(nats)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Text up to one of the strings of `until`; of a long context the end is read."""
        return [self._generated(*request.args) for request in requests]

    def _generated(self, context: str, settings: dict[str, Any]) -> str:
        trained = self.trained
        wanted = int(settings.get("max_gen_toks", _GENERATED_TOKENS))
        num_tokens = min(wanted, trained.context_tokens - 1)
        prompt = trained.encode(context)[-(trained.context_tokens - num_tokens) :]
        chosen = GenerationSettings(
            num_tokens=num_tokens,
            temperature=float(settings.get("temperature", 0.0)) if settings.get("do_sample", False) else 0.0,
            top_k=settings.get("top_k"),
            top_p=float(settings.get("top_p", 1.0)),
            seed=self.seed,
        )
        chosen.check()
        with trained.runtime.autocast():
            tokens = self._generator.generate(prompt, 1, chosen).tokens_BN[0].tolist()
        text = trained.decode(until_separator(tokens, trained.vocabulary.separator))
        until = settings.get("until") or []
        for end in [until] if isinstance(until, str) else until:
            text = text.split(end)[0] if end else text
        return text

    @property
    def _generator(self) -> Any:
        trained = self.trained
        return generator_of(trained.objective.name, trained.model, trained.vocabulary)

    def _nats(self, continuations: Sequence[Continuation]) -> Sequence[float]:
        trained = self.trained
        found = continuation_nats(
            trained.model,
            trained.objective,
            continuations,
            trained.vocabulary,
            num_masks=self.num_masks,
            seed=self.seed,
        )
        nats: list[float] = found.nats_O.tolist()
        return nats

    def _continuation(self, context: str, continuation: str) -> Continuation:
        tokens, room = self.trained.encode(continuation), self.trained.context_tokens
        if not tokens or len(tokens) > room:
            raise TaskError(
                f"a continuation of {len(tokens)} tokens was asked for ({continuation[:40]!r}), and model "
                f"{self.trained.name} scores 1 to {room} (data.sequence_length)"
            )
        read = self.trained.encode(context)
        return Continuation(read[max(0, len(read) - (room - len(tokens))) :], tokens)


def harness_model(checkpoint: str | Path, **settings: Any) -> Any:
    """An `lm_eval.api.model.LM` for the checkpoint; see `HarnessRequests` for the settings.

    Raises:
        ConfigError: lm-evaluation-harness is not installed.
        RecordError: there is no checkpoint.
    """
    return _model_class()(checkpoint, **settings)


def run_harness(arguments: Sequence[str]) -> None:
    """The harness's command line, with `--model crossover --model_args checkpoint=DIR` known to it.

    Raises:
        ConfigError: lm-evaluation-harness is not installed.
    """
    registry = _lm_eval("api.registry").model_registry
    if _NAME not in registry:
        registry.register(_NAME)(_model_class())
    parser = _lm_eval("_cli").HarnessCLI()
    _lm_eval("utils").setup_logging()
    import sys

    before, sys.argv = sys.argv, ["lm-eval", *arguments]
    try:
        parser.execute(parser.parse_args())
    finally:
        sys.argv = before


def _model_class() -> Any:
    """Ours, a subclass of theirs: what we do not answer, they do."""
    return types.new_class("CrossoverLM", (HarnessRequests, _lm_eval("api.model").LM))


def _lm_eval(module: str) -> Any:
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("lm_eval"):
            raise
        raise ConfigError(
            "lm-evaluation-harness is not installed here: pip install -c constraints.txt 'crossover[eval]' brings it"
        ) from None
