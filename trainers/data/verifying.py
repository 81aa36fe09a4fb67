"""`verify_corpus`: reads all of a corpus again and compares it with its manifest.

Opening a corpus checks the hash of every file; this also decodes every document, so that what the files hold is known
to be the text whose hashes the manifest has, in the split and at the place that the text's own hash gives it.
"""

from __future__ import annotations

import hashlib

import numpy as np

from crossover.trainers.data.corpus import Corpus
from crossover.trainers.data.manifest import SPLITS, SplitName
from crossover.trainers.data.preparation.runs import key_of
from crossover.trainers.data.splitting import split_ranges
from crossover.trainers.errors import CorpusError

__all__ = ["verify_corpus"]


def verify_corpus(corpus: Corpus) -> dict[str, str]:
    """What was checked, in words.

    Args:
        corpus: opened, so that its files have their hashes.

    Raises:
        CorpusError: the first thing that is not as the manifest says.
    """
    manifest = corpus.manifest
    done = {"files": f"{len(manifest.files):,} as in the manifest, by sha256"}
    for split in SPLITS:
        done[split] = _verified(corpus, split)
    if manifest.quality is not None:
        for tier in manifest.quality.tiers:
            _equal(
                corpus, f"documents of tier {tier.name}", int(corpus.is_in_tier(tier.name).sum()), tier.num_documents
            )
        done["tiers"] = ", ".join(f"{tier.name} {tier.num_documents:,} documents" for tier in manifest.quality.tiers)
    done["content"] = manifest.content_hash
    return done


def _verified(corpus: Corpus, split: SplitName) -> str:
    facts, tokens = corpus.manifest.splits[split], corpus.split(split)
    first, last = split_ranges(corpus.manifest.split_fractions)[split]
    digests, num_bytes, before = hashlib.sha256(), 0, b""
    for number in range(tokens.num_documents):
        text = corpus.tokenizer.decode(tokens.document(number))
        digest = hashlib.sha256(text).digest()
        if digest <= before or not first <= key_of(digest) < last:
            raise CorpusError(
                f"document {number:,} of the {split} split of corpus {corpus.name} is not where its hash "
                f"{digest.hex()[:16]} puts it: {_REMEDY}"
            )
        digests.update(digest)
        num_bytes += len(text)
        before = digest
    lengths = np.diff(tokens.piece_offsets)
    _equal(corpus, f"documents of {split}", tokens.num_documents, facts.num_documents)
    _equal(corpus, f"pieces of {split}", len(lengths), facts.num_pieces)
    _equal(corpus, f"tokens of {split}", int(lengths.sum()), facts.num_tokens)
    _equal(corpus, f"bytes of {split}", num_bytes, facts.num_bytes)
    _equal(corpus, f"hash of {split}", digests.hexdigest(), facts.documents_sha256)
    return f"{facts.num_documents:,} documents, {facts.num_tokens:,} tokens, {facts.num_bytes:,} bytes of text"


def _equal(corpus: Corpus, what: str, found: object, said: object) -> None:
    if found != said:
        raise CorpusError(f"corpus {corpus.name}: {what}: {found} found, and the manifest says {said}: {_REMEDY}")


_REMEDY = "delete the folder and prepare the corpus again"
