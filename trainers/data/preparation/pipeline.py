"""The steps of a preparation, and what only the whole corpus knows: vocabulary, index, tiers, manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from crossover.trainers.data.locations import InputFile
from crossover.trainers.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Manifest,
    Provenance,
    QualityFacts,
    SplitFacts,
    SplitName,
)
from crossover.trainers.data.preparation.executors import Executor
from crossover.trainers.data.preparation.near_duplicates import HeldOutIndex
from crossover.trainers.data.preparation.quality import scorer_class
from crossover.trainers.data.preparation.readers import Span, format_of
from crossover.trainers.data.preparation.runs import Part, PartFacts, gathered, read_part
from crossover.trainers.data.preparation.settings import CorpusSettings
from crossover.trainers.data.preparation.shard_jobs import ShardFigures, ShardJob, make_shard
from crossover.trainers.data.splitting import refuse_empty_split, split_ranges
from crossover.trainers.data.tiers import write_tiers
from crossover.trainers.data.tokenizers import HuggingFaceTokenizer, read_tokenizer, train_bpe
from crossover.trainers.errors import CorpusError

__all__ = ["PART_BYTES", "Preparation", "Progress"]

PART_BYTES = 32 << 20
_PART_FILES = 4096
_SAMPLE_BYTES = 64 << 20  # of text, from which a BPE vocabulary is learned
_SAMPLE_SLICE_BYTES = 8 << 20

Job = TypeVar("Job")
Result = TypeVar("Result")


class Progress(Protocol):
    """Is told how far a preparation is."""

    def __call__(self, activity: str, done: int, total: int) -> None:
        """So many of so many jobs of an activity are done, 0 when it begins; a job is about 16 to 32 MB of text."""


class Preparation:
    """One corpus on its way from sources to a finished folder."""

    def __init__(
        self,
        work: Path,
        files: Sequence[InputFile],
        settings: CorpusSettings,
        executor: Executor,
        progress: Progress | None,
    ) -> None:
        self._work, self._files, self._settings = work, files, settings
        self._executor, self._progress = executor, progress

    def run(self) -> Manifest:
        """Everything but the last renaming."""
        parts = self._read()
        num_bytes = sum(part.num_bytes for part in parts)
        if not num_bytes:
            place = ", ".join(self._settings.sources)
            raise CorpusError(f"there is no text in {place} ({len(self._files)} files): give files with text")
        tokenizer = self._tokenizer(num_bytes)
        if self._settings.quality is not None:
            scorer = scorer_class(self._settings.quality)
            self._once("scorer", lambda: scorer.prepare(self._work, partial(self._sampled, num_bytes)))
        jobs = {split: self._jobs(split, num_bytes, tokenizer) for split in SPLITS}
        held_out = [*jobs["validation"], *jobs["test"]]
        figures = self._run("held-out shards", make_shard, held_out)
        if self._settings.near_duplicates is not None:
            signatures = [np.load(self._work / "figures" / f"{job.name}.npy") for job in held_out]
            HeldOutIndex.build(self._work / "index", np.concatenate(signatures))
        figures += self._run("training shards", make_shard, jobs["training"])
        return self._finished(parts, figures, tokenizer)

    def _read(self) -> list[PartFacts]:
        parts = [
            Part(number, spans, self._work / "runs", self._settings.columns, self._settings.errors)
            for number, spans in enumerate(_grouped(self._files))
        ]
        return self._run("reading", read_part, parts)

    def _run(self, activity: str, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        results: list[Result] = []
        self._tell(activity, 0, len(jobs))
        for result in self._executor.map(function, jobs):
            results.append(result)
            self._tell(activity, len(results), len(jobs))
        return results

    def _once(self, activity: str, action: Callable[[], Result]) -> Result:
        """What is done here, in one piece."""
        self._tell(activity, 0, 1)
        result = action()
        self._tell(activity, 1, 1)
        return result

    def _tell(self, activity: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(activity, done, total)

    def _tokenizer(self, num_bytes: int) -> HuggingFaceTokenizer | None:
        """The tokenizer, trained if need be and kept where the jobs find it; None: bytes."""
        name = self._settings.tokenizer
        if name == "bytes":
            return None
        path = self._work / "tokenizer.json"
        if not path.exists():
            if name.startswith("bpe:"):
                texts, size = self._sample(num_bytes, _SAMPLE_BYTES), int(name.removeprefix("bpe:"))
                content = self._once("vocabulary", lambda: train_bpe(texts, size))
            else:
                content = read_tokenizer(Path(name))
            waiting = path.with_suffix(".tmp")
            waiting.write_text(content, encoding="utf-8")
            waiting.replace(path)
        return HuggingFaceTokenizer(path.read_text(encoding="utf-8"), name)

    def _sample(self, num_bytes: int, limit: int) -> Iterator[bytes]:
        """Training documents drawn by their hash, about `limit` bytes at most."""
        runs = sorted((self._work / "runs").glob("*.arrow"))
        first, last = split_ranges(self._settings.fractions)["training"]
        num_slices = max(1, round(num_bytes * (last - first) / (1 << 48) / _SAMPLE_SLICE_BYTES))
        taken = 0
        for start, stop in _cut(first, last, num_slices):
            for text in gathered(runs, start, stop).texts:
                if taken and taken + len(text) > limit:
                    return
                taken += len(text)
                yield text

    def _sampled(self, num_bytes: int, limit: int) -> list[bytes]:
        return list(self._sample(num_bytes, limit))

    def _jobs(self, split: SplitName, num_bytes: int, tokenizer: HuggingFaceTokenizer | None) -> list[ShardJob]:
        settings = self._settings
        first, last = split_ranges(settings.fractions)[split]
        num_shards = max(1, round(num_bytes * (last - first) / (1 << 48) / settings.shard_bytes))
        return [
            ShardJob(
                split=split,
                number=number,
                start=start,
                stop=stop,
                work=self._work,
                output=self._work / "corpus",
                piece_tokens=settings.piece_tokens,
                tokenizer=None if tokenizer is None else settings.tokenizer,
                near_duplicates=settings.near_duplicates,
                scorer=settings.quality,
            )
            for number, (start, stop) in enumerate(_cut(first, last, num_shards))
        ]

    def _finished(
        self, parts: Sequence[PartFacts], figures: Sequence[ShardFigures], tokenizer: HuggingFaceTokenizer | None
    ) -> Manifest:
        """Writes what only the whole knows: tiers and manifest."""
        settings, folder = self._settings, self._work / "corpus"
        figures = sorted(figures, key=lambda shard: (SPLITS.index(shard.split), shard.number))
        num_distinct = sum(shard.num_documents for shard in figures)
        for split in SPLITS:
            if not any(shard.shard for shard in figures if shard.split == split):
                refuse_empty_split(split, num_distinct, settings.fractions)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            tokenizer=_tokenizer_label(settings.tokenizer),
            tokenizer_sha256=None if tokenizer is None else tokenizer.sha256,
            num_text_tokens=256 if tokenizer is None else tokenizer.num_text_tokens,
            piece_tokens=settings.piece_tokens,
            split_fractions={split: settings.fractions[split] for split in SPLITS},
            splits={split: self._split_facts([one for one in figures if one.split == split]) for split in SPLITS},
            shards=[shard.shard for shard in figures if shard.shard],
            quality=self._tiers(folder, [shard for shard in figures if shard.split == "training" and shard.shard]),
            provenance=_provenance(settings, len(self._files), parts, figures),
        )
        if tokenizer is not None:
            shutil.copy(self._work / "tokenizer.json", folder / "tokenizer.json")
        with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as file:
            file.write(manifest.to_json())
            file.flush()
            os.fsync(file.fileno())
        return manifest

    def _figures_of(self, shard: ShardFigures, name: str) -> Any:
        with np.load(self._work / "figures" / f"{shard.split}-{shard.number:05d}.npz") as arrays:
            return arrays[name]

    def _split_facts(self, figures: Sequence[ShardFigures]) -> SplitFacts:
        digest = hashlib.sha256()
        for shard in figures:
            if shard.shard:
                digest.update(self._figures_of(shard, "digests").tobytes())
        return SplitFacts(
            num_documents=sum(shard.num_documents for shard in figures),
            num_pieces=sum(shard.num_pieces for shard in figures),
            num_tokens=sum(shard.num_tokens for shard in figures),
            num_bytes=sum(shard.num_bytes for shard in figures),
            documents_sha256=digest.hexdigest(),
        )

    def _tiers(self, folder: Path, figures: Sequence[ShardFigures]) -> QualityFacts | None:
        if (label := self._settings.quality_label) is None:
            return None
        scores, tokens = (
            np.concatenate([self._figures_of(shard, name) for shard in figures]) for name in ("scores", "tokens")
        )
        return write_tiers(folder, label, scores, tokens, self._settings.tiers)


def _grouped(files: Sequence[InputFile]) -> Iterator[tuple[Span, ...]]:
    """The shares of all files, small ones together."""
    waiting: list[Span] = []
    for span in (span for file in files for span in format_of(file.name).spans(file, PART_BYTES)):
        full = sum(one.num_bytes for one in waiting) + span.num_bytes > PART_BYTES if waiting else False
        if full or len(waiting) == _PART_FILES:
            yield tuple(waiting)
            waiting = []
        waiting.append(span)
    if waiting:
        yield tuple(waiting)


def _cut(first: int, last: int, count: int) -> list[tuple[int, int]]:
    bounds = [first + (last - first) * place // count for place in range(count + 1)]
    return list(pairwise(bounds))


def _tokenizer_label(tokenizer: str) -> str:
    return tokenizer if tokenizer == "bytes" or tokenizer.startswith("bpe:") else Path(tokenizer).name


def _provenance(
    settings: CorpusSettings, num_files: int, parts: Sequence[PartFacts], figures: Sequence[ShardFigures]
) -> Provenance:
    ordered = sorted(parts, key=lambda part: part.number)
    return Provenance(
        name=settings.name,
        sources=list(settings.sources),
        interpreter=settings.interpreter,
        num_files=num_files,
        num_empty=sum(part.num_empty for part in parts),
        num_duplicates=sum(shard.num_duplicates for shard in figures),
        near_duplicate_threshold=settings.near_duplicates,
        num_near_duplicates=sum(shard.num_near_duplicates for shard in figures),
        num_near_duplicate_bytes=sum(shard.num_near_duplicate_bytes for shard in figures),
        num_skipped=sum(part.num_skipped for part in parts),
        first_skipped=next((part.first_skipped for part in ordered if part.first_skipped), None),
        num_files_replaced=sum(part.num_replaced for part in parts),
        num_characters_replaced=sum(part.num_characters_replaced for part in parts),
    )
