"""The ids that a model reads and predicts: the text's own tokens first, then separator, begin and mask.

The separator is predicted like text; begin (read first by causal models) and mask are only ever read. So a model has
two more inputs than outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BYTES", "Vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """Token ids, all derived from the number of text tokens.

    Args:
        num_text_tokens: ids 0 to num_text_tokens - 1 are text; 256 for bytes.
    """

    num_text_tokens: int

    @property
    def separator(self) -> int:
        """Id that ends a piece in training and a document in held-out text."""
        return self.num_text_tokens

    @property
    def begin(self) -> int:
        """Id that a causal model reads before the first token of a sequence."""
        return self.num_text_tokens + 1

    @property
    def mask(self) -> int:
        """Id that stands for a hidden token."""
        return self.num_text_tokens + 2

    @property
    def num_output_tokens(self) -> int:
        """Ids that can be predicted: text and separator."""
        return self.num_text_tokens + 1

    @property
    def num_input_tokens(self) -> int:
        """Ids that can be read: text, separator, begin and mask."""
        return self.num_text_tokens + 3


BYTES = Vocabulary(num_text_tokens=256)
