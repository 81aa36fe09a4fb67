"""Text that tests make themselves: words that are always the same, enough for every split to have documents."""

from __future__ import annotations

import random
from pathlib import Path

__all__ = ["write_words"]


def write_words(folder: Path) -> Path:
    """Sixty documents of about 1,700 bytes each, in a folder that is made for them."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(200)]
    for number in range(60):
        (folder / f"{number}.txt").write_text(" ".join(draw.choices(words, k=350)))
    return folder
