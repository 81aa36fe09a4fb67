"""The tokenizer of an exported model, as `transformers` reads it: text ids, then separator, begin and mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossover.platform.models.export_format import ExportError
from crossover.trainers.data import Vocabulary
from crossover.trainers.data.tokenizers import HuggingFaceTokenizer, Tokenizer

__all__ = ["SPECIAL_TOKENS", "write_tokenizer"]

SPECIAL_TOKENS = ("<|separator|>", "<|begin|>", "<|mask|>")


def write_tokenizer(tokenizer: Tokenizer, vocabulary: Vocabulary, folder: Path, *, begins: bool) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    Args:
        tokenizer: of the corpus.
        vocabulary: its ids.
        folder: where they go.
        begins: whether a text is read after the begin token.

    Raises:
        ExportError: the tokenizer's ids leave gaps, so that added tokens would get others than the model knows.
    """
    from tokenizers import AddedToken, processors
    from tokenizers import Tokenizer as Library

    made: Any = Library.from_str(tokenizer.content) if isinstance(tokenizer, HuggingFaceTokenizer) else _bytes()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    expected = dict(zip(SPECIAL_TOKENS, (vocabulary.separator, vocabulary.begin, vocabulary.mask), strict=True))
    found = {token: made.token_to_id(token) for token in SPECIAL_TOKENS}
    if found != expected:
        raise ExportError(f"the special tokens would get the ids {found}, and the model was trained with {expected}")
    if begins:
        begin = SPECIAL_TOKENS[1]
        made.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, vocabulary.begin)]
        )
    (folder / "tokenizer.json").write_text(made.to_str(pretty=True), encoding="utf-8")
    separator, begin, mask = SPECIAL_TOKENS
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": separator,
        "pad_token": separator,
        "mask_token": mask,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _bytes() -> Any:
    """A byte-level vocabulary without merges, in which the id of a byte is its value."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    made = Library(models.BPE(vocab=_byte_characters(), merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _byte_characters() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies: itself where it is printable (GPT-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + place): byte for place, byte in enumerate(others)}
