"""From text to token ids and back: bytes, or a Hugging Face tokenizer that was trained on the corpus or given.

The ids of separator, begin and mask come after the text's own, so no tokenizer has to know them. Losses are compared in
bits per byte, so each held-out token carries the bytes of text that it stands for.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossover.trainers.data.byte_level import WordIds, splits_at_words
from crossover.trainers.errors import CorpusError

__all__ = [
    "ByteTokenizer",
    "HuggingFaceTokenizer",
    "TokenArray",
    "Tokenizer",
    "read_tokenizer",
    "token_type",
    "train_bpe",
]

TokenArray = NDArray[np.uint16 | np.uint32]
_NUM_SPECIAL = 3
_BATCH_BYTES = 1 << 20


def token_type(num_text_tokens: int) -> type[np.uint16 | np.uint32]:
    """The smallest type that holds every id, separator, begin and mask among them."""
    return np.uint16 if num_text_tokens + _NUM_SPECIAL <= 1 << 16 else np.uint32


class Tokenizer(ABC):
    """Text to ids and back, without loss."""

    num_text_tokens: int
    sha256: str | None = None

    @abstractmethod
    def encode(self, texts: Sequence[bytes]) -> list[TokenArray]:
        """The ids of each text: uint16, or uint32 for more than 65,533 of them."""

    @abstractmethod
    def decode(self, tokens: TokenArray) -> bytes:
        """The text of ids, none of them special."""

    @abstractmethod
    def token_bytes(self, text: bytes, tokens: TokenArray) -> NDArray[np.uint16]:
        """Bytes of text that each token of it stands for; together all of them."""


class ByteTokenizer(Tokenizer):
    """A token is a byte."""

    num_text_tokens = 256

    def encode(self, texts: Sequence[bytes]) -> list[TokenArray]:
        """See `Tokenizer`."""
        return [np.frombuffer(text, dtype=np.uint8).astype(np.uint16) for text in texts]

    def decode(self, tokens: TokenArray) -> bytes:
        """See `Tokenizer`."""
        return tokens.astype(np.uint8).tobytes()

    def token_bytes(self, text: bytes, tokens: TokenArray) -> NDArray[np.uint16]:
        """See `Tokenizer`."""
        return np.ones(len(tokens), dtype=np.uint16)


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer.json.

    Args:
        content: the text of the file.
        name: how messages call it.

    Raises:
        CorpusError: it is no tokenizer.
    """

    def __init__(self, content: str, name: str) -> None:
        self._name = name
        self.content = content
        self._tokenizer = _loaded(content, name)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise CorpusError(f"tokenizer {name} has no tokens: give another one, or bpe:8192 to train one")
        self.num_text_tokens = max(vocabulary.values()) + 1
        self.sha256 = hashlib.sha256(content.encode()).hexdigest()
        self._type = token_type(self.num_text_tokens)
        parsed = json.loads(content)
        self._bytes_of_id = _byte_level_lengths(parsed, vocabulary, self.num_text_tokens)
        self._words = WordIds(self._tokenizer) if splits_at_words(parsed) else None

    def encode(self, texts: Sequence[bytes]) -> list[TokenArray]:
        """See `Tokenizer`."""
        found: list[TokenArray] = []
        for batch in _batches(texts):
            decoded = [text.decode() for text in batch]
            if self._words is not None:
                found += [np.fromiter(ids, dtype=self._type) for ids in self._words.encode(decoded)]
                continue
            encodings = self._tokenizer.encode_batch_fast(decoded, add_special_tokens=False)
            found += [np.array(encoding.ids, dtype=self._type) for encoding in encodings]
        return found

    def decode(self, tokens: TokenArray) -> bytes:
        """See `Tokenizer`."""
        text: str = self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
        return text.encode()

    def token_bytes(self, text: bytes, tokens: TokenArray) -> NDArray[np.uint16]:
        """See `Tokenizer`. Where tokens are no strings of bytes, a character cut in two counts for its first token."""
        if self._bytes_of_id is not None:
            return self._bytes_of_id[tokens]
        characters = text.decode()
        encoding = self._tokenizer.encode(characters, add_special_tokens=False)
        bytes_before = np.cumsum([0, *(len(character.encode()) for character in characters)])
        ends = np.maximum.accumulate(np.array([end for _, end in encoding.offsets], dtype=np.int64))
        ends[-1:] = len(characters)
        return np.diff(bytes_before[ends], prepend=0).astype(np.uint16)


def _loaded(content: str, name: str) -> Any:
    from tokenizers import Tokenizer as Loaded

    try:
        return Loaded.from_str(content)
    except Exception as error:  # the library raises no narrower type
        raise CorpusError(
            f"{name} is no tokenizer that the library `tokenizers` reads ({error}): give a tokenizer.json, bytes, or "
            "bpe:8192 to train one"
        ) from None


def _byte_level_lengths(content: Any, vocabulary: dict[str, int], size: int) -> NDArray[np.uint16] | None:
    """Bytes of each id of a byte-level vocabulary, where one character of an entry is one byte; None for others."""
    decoder = content.get("decoder") or {}
    kinds = {decoder.get("type"), *(inner.get("type") for inner in decoder.get("decoders", []))}
    if "ByteLevel" not in kinds:
        return None
    lengths = np.zeros(size, dtype=np.uint16)
    for entry, number in vocabulary.items():
        lengths[number] = len(entry)
    for added in content.get("added_tokens") or []:
        lengths[added["id"]] = len(added["content"].encode())
    return lengths


def _batches(texts: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    """Texts in batches of about a megabyte: what the library holds meanwhile is many times the text."""
    start = size = 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= _BATCH_BYTES:
            yield texts[start : place + 1]
            start, size = place + 1, 0
    if start < len(texts):
        yield texts[start:]


def train_bpe(texts: Iterable[bytes], num_tokens: int) -> str:
    """The tokenizer.json of a byte-level BPE vocabulary of these texts: any text comes back as it was.

    Args:
        texts: UTF-8.
        num_tokens: text tokens wanted, the 256 bytes among them; fewer come out where the texts repeat too little.

    Raises:
        CorpusError: fewer than 256 are wanted.
    """
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if num_tokens < 256:
        raise CorpusError(f"tokenizer bpe:{num_tokens} has room for no more than bytes: ask for 257 tokens or more")
    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((text.decode() for text in texts), trainer)
    content: str = tokenizer.to_str()
    return content


def read_tokenizer(path: Path) -> str:
    """The text of a tokenizer.json.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"tokenizer {path} cannot be read ({error}): give a tokenizer.json, bytes or bpe:8192"
        ) from None
