"""Ids of a byte-level BPE vocabulary, a word at a time and each word once.

The pre-tokenizer of GPT-2 (`ByteLevel` with its regular expression) looks at nothing before a word, so text that is cut
where it cuts has the ids of its parts, one after another. Words repeat, and the library is asked for each of them once:
it spends its time on what is kept here in a dictionary.

Where it cuts is known without its tables of Unicode in two cases: of ASCII text everywhere, and of any text between a
visible ASCII character and a white space after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

__all__ = ["WordIds", "splits_at_words"]

_WHITE = r" \t\n\r\v\f"
_ASCII_WORDS = re.compile(
    rf"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^{_WHITE}A-Za-z0-9]+|[{_WHITE}]+(?![^{_WHITE}])|[{_WHITE}]+"
)
_CUTS = re.compile(r"(?<=[!-~])(?=[ \n\t\r])")
_MAX_CHARACTERS = 1 << 22  # of the words that are kept: some 50 MB with their ids
_SLICE = 1 << 20  # characters of a long text whose words are in memory at once, each a string of its own
_MAX_NEW = 0.3  # of the words of a call: if more are new, the library is faster with the whole text


def splits_at_words(content: Mapping[str, Any]) -> bool:
    """Whether words have ids by themselves: of a tokenizer.json of which all that acts on text acts within them."""
    before, model = content.get("pre_tokenizer") or {}, content.get("model") or {}
    return (
        content.get("normalizer") is None
        and before.get("type") == "ByteLevel"
        and before.get("use_regex", True)
        and not before.get("add_prefix_space", True)
        and model.get("type") == "BPE"
        and not model.get("dropout")
        and not content.get("added_tokens")
    )


class WordIds:
    """Encodes by words, and keeps what it has learned of them.

    Args:
        tokenizer: the library's, of which `splits_at_words` is true.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, Sequence[int]] = {}
        self.num_characters = 0

    def encode(self, texts: Sequence[str]) -> list[Iterable[int]]:
        """The ids of each text, to be gone through before the next call."""
        if any(len(text) > _SLICE for text in texts):
            return [chain.from_iterable(self._encoded_once([part])[0] for part in _slices(text)) for text in texts]
        return self._encoded_once(texts)

    def _encoded_once(self, texts: Sequence[str]) -> list[Iterable[int]]:
        words_of = [_ASCII_WORDS.findall(text) if text.isascii() else _CUTS.split(text) for text in texts]
        new = list(set().union(*words_of) - self._ids.keys())
        if len(new) > _MAX_NEW * sum(map(len, words_of)):
            return self._encoded(texts)
        if self.num_characters > _MAX_CHARACTERS:
            new, self._ids, self.num_characters = list(set().union(*words_of)), {}, 0
        self._ids.update(zip(new, map(tuple, self._encoded(new)), strict=True))
        self.num_characters += sum(map(len, new))
        return [chain.from_iterable(map(self._ids.__getitem__, words)) for words in words_of]

    def _encoded(self, texts: Sequence[str]) -> list[Iterable[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def _slices(text: str) -> Iterator[str]:
    start = 0
    while (cut := _CUTS.search(text, start + _SLICE)) is not None:
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
