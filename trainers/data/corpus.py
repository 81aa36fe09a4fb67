"""`open_corpus`: from a name or a folder to a corpus whose every shard was checked against its sha256."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from crossover.trainers.data.manifest import MANIFEST_NAME, Manifest, ShardFacts, SplitName
from crossover.trainers.data.python_stdlib import PYTHON_STDLIB, python_stdlib_folder
from crossover.trainers.data.shards import SplitTokens, file_sha256
from crossover.trainers.data.vocabulary import BYTES, Vocabulary
from crossover.trainers.errors import CorpusError

__all__ = ["Corpus", "open_corpus", "vocabulary_of"]


class Corpus:
    """A prepared corpus, checked and memory-mapped.

    Args:
        name: how messages call it.
        folder: where it lies.

    Raises:
        CorpusError: the folder or one of its shards is damaged.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.manifest = Manifest.read(folder)
        for shard in self.manifest.shards:
            _check_shard(folder / shard.file, shard)
        self._splits: dict[SplitName, SplitTokens] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The token ids."""
        return Vocabulary(self.manifest.num_text_tokens)

    @property
    def content_hash(self) -> str:
        """Identity of the content, by which trials know it."""
        return self.manifest.content_hash

    @property
    def num_training_tokens(self) -> int:
        """The largest possible budget of unique tokens: every training piece and its separator."""
        facts = self.manifest.splits["training"]
        return facts.num_tokens + facts.num_pieces

    def split(self, name: SplitName) -> SplitTokens:
        """The tokens of a split, memory-mapped when first asked for."""
        if name not in self._splits:
            files = [self.folder / shard.file for shard in self.manifest.shards if shard.split == name]
            self._splits[name] = SplitTokens.open(files)
        return self._splits[name]


def open_corpus(name_or_path: str, cache_dir: Path | None = None) -> Corpus:
    """Opens a corpus and verifies it; `python-stdlib` is prepared on first use.

    Args:
        name_or_path: python-stdlib, or the folder of a prepared corpus (./python-stdlib for a folder of that name).
        cache_dir: folder for caches; by default $CROSSOVER_CACHE, else ~/.cache/crossover.

    Raises:
        CorpusError: there is no such corpus (a near name is suggested), or it is damaged.
    """
    if name_or_path == PYTHON_STDLIB:
        return Corpus(name_or_path, python_stdlib_folder(cache_dir))
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
    path = Path(name_or_path, MANIFEST_NAME)
    try:
        status = path.stat()
        return Vocabulary(_num_text_tokens(path.parent, status.st_mtime_ns))
    except (OSError, ValueError, CorpusError):
        return BYTES


@lru_cache(maxsize=64)
def _num_text_tokens(folder: Path, modified_ns: int) -> int:
    return Manifest.read(folder).num_text_tokens


def _near_name(name: str, folder: Path) -> str | None:
    corpora = [str(path.parent) for path in folder.parent.glob(f"*/{MANIFEST_NAME}")]
    return next(iter(difflib.get_close_matches(name, [PYTHON_STDLIB, *corpora], n=1)), None)


def _check_shard(path: Path, facts: ShardFacts) -> None:
    try:
        status = path.stat()
        if status.st_size != facts.file_bytes:
            raise CorpusError(
                f"shard {path} has {status.st_size} bytes, not {facts.file_bytes} as in its manifest: {_REMEDY}"
            )
        found = _known_sha256(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CorpusError(f"shard {path} cannot be read ({error.strerror}): {_REMEDY}") from None
    if found != facts.sha256:
        raise CorpusError(f"shard {path} has sha256 {found}, not {facts.sha256} as in its manifest: {_REMEDY}")


_KNOWN = f"the embedded corpus {PYTHON_STDLIB}"
_REMEDY = f"delete the folder and prepare the corpus again ({PYTHON_STDLIB} is prepared again on its next use)"


@lru_cache(maxsize=4096)
def _known_sha256(path: Path, inode: int, size: int, modified_ns: int) -> str:
    """sha256 of a file, computed once a process for each state of the file."""
    return file_sha256(path)
