"""One shard: a range of hashes, gathered from the runs, compared, scored, made tokens and written.

A job is a pure function of the runs and its settings, so it runs in any process of any machine that sees the folder,
and a job that was done is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossover.trainers.data.manifest import ShardFacts, SplitName
from crossover.trainers.data.preparation.near_duplicates import HeldOutIndex, signatures_of
from crossover.trainers.data.preparation.quality import scorer_class
from crossover.trainers.data.preparation.runs import Documents, gathered
from crossover.trainers.data.shards import write_shard
from crossover.trainers.data.tokenizers import ByteTokenizer, HuggingFaceTokenizer, TokenArray, Tokenizer
from crossover.trainers.errors import CorpusError

__all__ = ["ShardFigures", "ShardJob", "make_shard"]

_ROUND_TRIPS = 32


@dataclass(frozen=True)
class ShardJob:
    """Work that one process does.

    Args:
        split: of the shard.
        number: of the shard in its split.
        start: first key (see `runs.key_of`).
        stop: key after the last.
        work: folder of the preparation: runs, tokenizer.json, index of the held-out split.
        output: folder of the shards.
        piece_tokens: most tokens of a piece.
        tokenizer: how messages call the tokenizer; None: bytes.
        near_duplicates: similarity from which a training document near a held-out one is dropped; None: none is.
        scorer: name of the scorer; None: none.
    """

    split: SplitName
    number: int
    start: int
    stop: int
    work: Path
    output: Path
    piece_tokens: int
    tokenizer: str | None
    near_duplicates: float | None
    scorer: str | None

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.split}-{self.number:05d}"


class ShardFigures(BaseModel):
    """What a shard holds: written last, so a shard that has them is whole. No file: no document fell into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: SplitName
    number: int
    shard: ShardFacts | None
    num_documents: int = 0
    num_pieces: int = 0
    num_tokens: int = 0
    num_bytes: int = 0
    num_duplicates: int = 0
    num_near_duplicates: int = 0
    num_near_duplicate_bytes: int = 0


def make_shard(job: ShardJob) -> ShardFigures:
    """Makes a shard, unless that was done before.

    Beside the shard it leaves digests, tokens and scores of its documents (`.npz`), and for the held-out splits their
    signatures (`.npy`).

    Raises:
        CorpusError: the tokenizer does not give a text back, or a run is damaged.
    """
    done = job.work / "figures" / f"{job.name}.json"
    if done.exists():
        return ShardFigures.model_validate_json(done.read_bytes())
    documents = gathered(sorted((job.work / "runs").glob("*.arrow")), job.start, job.stop)
    near = _compared(job, documents)
    figures = _written(job, _without(documents, near)).model_copy(
        update={
            "num_duplicates": documents.num_duplicates,
            "num_near_duplicates": int(near.sum()),
            "num_near_duplicate_bytes": sum(len(documents.texts[place]) for place in np.flatnonzero(near)),
        }
    )
    waiting = done.with_suffix(".tmp")
    waiting.write_text(figures.model_dump_json())
    waiting.replace(done)
    return figures


def _compared(job: ShardJob, documents: Documents) -> NDArray[np.bool_]:
    """Which documents are dropped because they are near a held-out one."""
    if job.near_duplicates is None:
        return np.zeros(len(documents.texts), dtype=bool)
    signatures = signatures_of(documents.texts)
    if job.split == "training":
        return _index(job.work / "index", job.near_duplicates).is_near(signatures)
    np.save(job.work / "figures" / f"{job.name}.npy", signatures)
    return np.zeros(len(documents.texts), dtype=bool)


@lru_cache(maxsize=1)
def _index(folder: Path, threshold: float) -> HeldOutIndex:
    return HeldOutIndex(folder, threshold)


def _without(documents: Documents, dropped: NDArray[np.bool_]) -> Documents:
    kept = np.flatnonzero(~dropped).tolist()
    return Documents(
        [documents.digests[place] for place in kept],
        [documents.texts[place] for place in kept],
        documents.quality[kept],
        documents.num_duplicates,
    )


def _written(job: ShardJob, documents: Documents) -> ShardFigures:
    if not documents.texts:
        return ShardFigures(split=job.split, number=job.number, shard=None)
    tokenizer = _tokenizer(job.work, job.tokenizer)
    tokens = tokenizer.encode(documents.texts)
    _check_round_trips(job, tokenizer, documents, tokens)
    token_bytes = None
    if job.tokenizer is not None and job.split != "training":
        token_bytes = [tokenizer.token_bytes(*pair) for pair in zip(documents.texts, tokens, strict=True)]
    length_D = np.array([len(some) for some in tokens])
    num_pieces_D = -(-length_D // job.piece_tokens)
    np.savez(
        job.work / "figures" / f"{job.name}.npz",
        digests=np.frombuffer(b"".join(documents.digests), np.uint8),
        tokens=length_D + num_pieces_D,
        scores=_scores(job, documents),
    )
    return ShardFigures(
        split=job.split,
        number=job.number,
        shard=write_shard(job.output / f"{job.name}.arrow", job.split, tokens, job.piece_tokens, token_bytes),
        num_documents=len(tokens),
        num_pieces=int(num_pieces_D.sum()),
        num_tokens=int(length_D.sum()),
        num_bytes=sum(map(len, documents.texts)),
    )


def _scores(job: ShardJob, documents: Documents) -> NDArray[np.float64]:
    if job.scorer is None or job.split != "training":
        return documents.quality
    return scorer_class(job.scorer)(job.work).scores(documents.texts)


@lru_cache(maxsize=2)
def _tokenizer(work: Path, name: str | None) -> Tokenizer:
    if name is None:
        return ByteTokenizer()
    return HuggingFaceTokenizer((work / "tokenizer.json").read_text(encoding="utf-8"), name)


def _check_round_trips(job: ShardJob, tokenizer: Tokenizer, documents: Documents, tokens: Sequence[TokenArray]) -> None:
    """The first documents of a shard come back as they were: a sample drawn by hash."""
    if job.tokenizer is None:
        return
    for text, ids in list(zip(documents.texts, tokens, strict=True))[:_ROUND_TRIPS]:
        back = tokenizer.decode(ids)
        if back != text:
            place = next((at for at, pair in enumerate(zip(text, back, strict=False)) if pair[0] != pair[1]), None)
            place = min(len(text), len(back)) if place is None else place
            shown = [some[max(0, place - 20) : place + 20].decode(errors="replace") for some in (text, back)]
            raise CorpusError(
                f"tokenizer {job.tokenizer} does not match this corpus: {shown[0]!r} comes back from its tokens as "
                f"{shown[1]!r}, so bits per byte would be of another text. Give one that loses nothing (byte-level), "
                "bytes, or bpe:8192 to train one"
            )
        if len(ids) == 0:
            raise CorpusError(f"tokenizer {job.tokenizer} makes no token of {text[:40]!r}: give another one")
