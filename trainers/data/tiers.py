"""Tiers of quality: the training documents by their score, cut into tiers of equal tokens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossover.trainers.data.manifest import QualityFacts, TierFacts
from crossover.trainers.data.shards import file_sha256
from crossover.trainers.errors import CorpusError

__all__ = ["tier_names", "tiers_of_documents", "write_tiers"]

_FILE = "quality.arrow"


def tier_names(num_tiers: int) -> list[str]:
    """Names from the worst to the best: low, high; low, medium, high; else q1, q2, ..."""
    return {2: ["low", "high"], 3: ["low", "medium", "high"]}.get(
        num_tiers, [f"q{number + 1}" for number in range(num_tiers)]
    )


def write_tiers(
    folder: Path, scorer: str, score_D: NDArray[np.float64], tokens_D: NDArray[np.int64], num_tiers: int
) -> QualityFacts:
    """Cuts the documents into tiers and writes score and tier of each.

    Args:
        folder: of the corpus.
        scorer: what made the scores, in words.
        score_D: of each training document, finite; of equal scores the earlier document (by hash) is the lower.
        tokens_D: tokens of each, one separator a piece counted.
        num_tiers: tiers wanted.

    Raises:
        CorpusError: there are too few documents, or one is larger than a tier.
    """
    order_D = np.argsort(score_D, kind="stable")
    middle_D = np.cumsum(tokens_D[order_D]) - tokens_D[order_D] / 2
    tier_D = np.empty(len(score_D), dtype=np.uint8)
    tier_D[order_D] = np.minimum(middle_D * num_tiers // tokens_D.sum(), num_tiers - 1)
    facts = []
    for tier, name in enumerate(tier_names(num_tiers)):
        inside = tier_D == tier
        if not inside.any():
            raise CorpusError(
                f"{num_tiers} tiers of equal tokens cannot be cut: tier {name} is empty, since {len(score_D)} training "
                "documents are too few, or one of them is too long: lower --tiers, or cut large documents"
            )
        scores = score_D[inside]
        facts.append(
            TierFacts(
                name=name,
                num_documents=int(inside.sum()),
                num_tokens=int(tokens_D[inside].sum()),
                lowest=float(scores.min()),
                highest=float(scores.max()),
            )
        )
    path = folder / _FILE
    batch = pa.record_batch({"score": pa.array(score_D), "tier": pa.array(tier_D)})
    with path.open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return QualityFacts(
        scorer=scorer, file=_FILE, file_bytes=path.stat().st_size, sha256=file_sha256(path), tiers=facts
    )


def tiers_of_documents(path: Path) -> NDArray[np.uint8]:
    """Tier of each training document, 0 the worst."""
    with pa.memory_map(str(path)) as source:
        tiers: NDArray[np.uint8] = pa.ipc.open_file(source).get_batch(0).column("tier").to_numpy()
        return tiers
