"""`open_corpus`: from a name, folder, URI or mixture to a corpus whose every file was checked against its sha256."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from crossover.trainers.data.manifest import MANIFEST_NAME, Manifest, SplitName, TierFacts
from crossover.trainers.data.python_stdlib import EMBEDDED, PYTHON_STDLIB, cache_folder, python_stdlib_folder
from crossover.trainers.data.remote import fetched, remote_manifest
from crossover.trainers.data.shards import SplitTokens, file_sha256
from crossover.trainers.data.tiers import tiers_of_documents
from crossover.trainers.data.tokenizers import ByteTokenizer, HuggingFaceTokenizer, Tokenizer, read_tokenizer
from crossover.trainers.data.vocabulary import BYTES, Vocabulary
from crossover.trainers.errors import CorpusError
from crossover.trainers.mixture import parse_mixture
from crossover.trainers.places import is_uri

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crossover.trainers.data.mixed import MixedCorpus

__all__ = ["Corpus", "CorpusPart", "open_corpus", "open_one", "vocabulary_of"]


@dataclass(frozen=True)
class CorpusPart:
    """A corpus in what a run reads; see `mixture.MixturePart` for weight and repeats."""

    corpus: Corpus
    weight: float = 1.0
    repeats: int = 1


class Corpus:
    """A prepared corpus, checked and memory-mapped.

    Args:
        name: how messages call it.
        folder: where it lies.

    Raises:
        CorpusError: the folder or one of its files is damaged.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.manifest = Manifest.read(folder)
        for file, (size, sha256) in self.manifest.files.items():
            _check_file(folder / file, size, sha256)
        self._splits: dict[SplitName, SplitTokens] = {}

    @property
    def parts(self) -> tuple[CorpusPart, ...]:
        """What a run reads: this corpus alone."""
        return (CorpusPart(self),)

    @property
    def location(self) -> str:
        """As a worker in any folder finds it: its name if it is embedded, its URI, or its absolute folder."""
        return str(self.folder.absolute()) if Path(self.name) == self.folder else self.name

    @property
    def vocabulary(self) -> Vocabulary:
        """The token ids."""
        return Vocabulary(self.manifest.num_text_tokens)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Text to tokens and back.

        Raises:
            CorpusError: its file is missing, or another one.
        """
        if self.manifest.tokenizer_sha256 is None:
            return ByteTokenizer()
        path = self.folder / "tokenizer.json"
        found = HuggingFaceTokenizer(read_tokenizer(path), self.manifest.tokenizer)
        if found.sha256 != self.manifest.tokenizer_sha256:
            raise CorpusError(f"{path} is not the tokenizer that made corpus {self.name}: {_REMEDY}")
        return found

    @property
    def content_hash(self) -> str:
        """Identity of the content, by which trials know it."""
        return self.manifest.content_hash

    def num_training_tokens(self, tier: str | None = None) -> int:
        """The largest possible budget of unique tokens: every training piece and its separator.

        Args:
            tier: of quality; None: all text.

        Raises:
            CorpusError: there is no such tier.
        """
        if tier is not None:
            return self._tier(tier)[1].num_tokens
        facts = self.manifest.splits["training"]
        return facts.num_tokens + facts.num_pieces

    def is_in_tier(self, tier: str) -> NDArray[np.bool_]:
        """Whether each training document is of a tier of quality.

        Raises:
            CorpusError: there is no such tier.
        """
        number, _ = self._tier(tier)
        inside: NDArray[np.bool_] = self._tiers == number
        return inside

    @cached_property
    def _tiers(self) -> NDArray[np.uint8]:
        assert self.manifest.quality is not None
        return tiers_of_documents(self.folder / self.manifest.quality.file)

    def _tier(self, tier: str) -> tuple[int, TierFacts]:
        quality = self.manifest.quality
        if quality is None:
            raise CorpusError(
                f"data.tier = {tier}, but corpus {self.name} has no tiers of quality: prepare it with --quality or "
                "--quality-column, or leave data.tier out"
            )
        names = [known.name for known in quality.tiers]
        if tier not in names:
            raise CorpusError(f"data.tier = {tier}, but the tiers of corpus {self.name} are {', '.join(names)}")
        return names.index(tier), quality.tiers[names.index(tier)]

    def split(self, name: SplitName) -> SplitTokens:
        """The tokens of a split, memory-mapped when first asked for."""
        if name not in self._splits:
            files = [self.folder / shard.file for shard in self.manifest.shards if shard.split == name]
            self._splits[name] = SplitTokens.open(files)
        return self._splits[name]


def open_corpus(name_or_path: str, cache_dir: Path | None = None) -> Corpus | MixedCorpus:
    """Opens a corpus and verifies it; `python-stdlib` is prepared on first use, one in a store is fetched.

    Args:
        name_or_path: python-stdlib, the folder of a prepared corpus (./python-stdlib for a folder of that name), the
            URI of one, or a mixture (see `trainers/mixture.py`).
        cache_dir: folder for caches; by default $CROSSOVER_CACHE, else ~/.cache/crossover.

    Raises:
        CorpusError: there is no such corpus (a near name is suggested), or it is damaged.
    """
    try:
        mixture = parse_mixture(name_or_path)
    except ValueError as error:
        raise CorpusError(str(error)) from None
    if not mixture:
        return open_one(name_or_path, cache_dir)
    from crossover.trainers.data.mixed import MixedCorpus

    return MixedCorpus([CorpusPart(open_one(part.name, cache_dir), part.weight, part.repeats) for part in mixture])


def open_one(name_or_path: str, cache_dir: Path | None = None) -> Corpus:
    """Like `open_corpus`, where one corpus is wanted and no mixture.

    Raises:
        CorpusError: see `open_corpus`.
    """
    if " * " in name_or_path:
        raise CorpusError(f"{name_or_path!r} is a mixture, and one corpus is wanted here: name one of them")
    if name_or_path in EMBEDDED:
        return Corpus(name_or_path, python_stdlib_folder(name_or_path, cache_dir))
    if is_uri(name_or_path):
        return Corpus(name_or_path, fetched(name_or_path, cache_folder(cache_dir) / "corpora" / "fetched"))
    folder = Path(name_or_path)
    try:
        if (folder / MANIFEST_NAME).exists():
            return Corpus(name_or_path, folder)
        exists, near = folder.exists(), _near_name(name_or_path, folder)
    except (OSError, ValueError) as error:  # a name that cannot be a path, or one that may not be looked at
        raise CorpusError(f"corpus {name_or_path!r} cannot be opened ({error}): name a folder, or {_KNOWN}") from None
    if exists:
        raise CorpusError(
            f"corpus {name_or_path!r} is no prepared corpus (there is no {MANIFEST_NAME} in it): prepare one with "
            f"`crossover data prepare {name_or_path} --output DIR`, then name DIR"
        )
    remedy = f"did you mean {near!r}?" if near else "prepare one with `crossover data prepare SOURCE... --output DIR`"
    raise CorpusError(f"corpus {name_or_path!r} is neither a folder nor {_KNOWN}: {remedy}")


def vocabulary_of(name_or_path: str) -> Vocabulary:
    """The token ids of a corpus, by its manifest alone; bytes where there is none, which `open_corpus` refuses.

    Args:
        name_or_path: see `open_corpus`.
    """
    try:
        mixture = parse_mixture(name_or_path)
        name = mixture[0].name if mixture else name_or_path
        if is_uri(name):
            return Vocabulary(_remote_num_text_tokens(name))
        path = Path(name, MANIFEST_NAME)
        return Vocabulary(_num_text_tokens(path.parent, path.stat().st_mtime_ns))
    except (OSError, ValueError, CorpusError):
        return BYTES


@lru_cache(maxsize=64)
def _remote_num_text_tokens(uri: str) -> int:
    return remote_manifest(uri).num_text_tokens


@lru_cache(maxsize=64)
def _num_text_tokens(folder: Path, modified_ns: int) -> int:
    return Manifest.read(folder).num_text_tokens


def _near_name(name: str, folder: Path) -> str | None:
    corpora = [str(path.parent) for path in folder.parent.glob(f"*/{MANIFEST_NAME}")]
    return next(iter(difflib.get_close_matches(name, [*EMBEDDED, *corpora], n=1)), None)


def _check_file(path: Path, size: int | None, sha256: str) -> None:
    try:
        status = path.stat()
        if size is not None and status.st_size != size:
            raise CorpusError(f"{path} has {status.st_size} bytes, not {size} as in its manifest: {_REMEDY}")
        found = _known_sha256(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None
    if found != sha256:
        raise CorpusError(f"{path} has sha256 {found}, not {sha256} as in its manifest: {_REMEDY}")


_KNOWN = f"the embedded corpus {PYTHON_STDLIB}"
_REMEDY = f"delete the folder and prepare the corpus again ({PYTHON_STDLIB} is prepared again on its next use)"


@lru_cache(maxsize=4096)
def _known_sha256(path: Path, inode: int, size: int, modified_ns: int) -> str:
    """sha256 of a file, computed once a process for each state of the file."""
    return file_sha256(path)
