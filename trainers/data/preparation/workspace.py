"""The folder in which a corpus is being prepared: locked, and found again after an interruption.

It lies beside the output, so that the finished corpus is renamed into place. What was read and written there counts as
long as sources and settings are the same; anything else begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["FOLDERS", "workspace"]

FOLDERS = ("runs", "figures", "corpus")


@contextmanager
def workspace(output: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """The folder, held by this process alone. What it holds is of these settings, or nothing.

    Args:
        output: the corpus that is prepared.
        settings: what decides whether earlier work counts; plain data.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.parent / f".{output.name}.preparing"
    descriptor = _locked(folder)
    try:
        text = json.dumps(settings, sort_keys=True)
        record = folder / "settings.json"
        if not record.exists() or record.read_text(encoding="utf-8") != text:
            for place in folder.iterdir():
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            for name in FOLDERS:
                (folder / name).mkdir()
            record.write_text(text, encoding="utf-8")
        yield folder
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """Waits until nobody else prepares there; the folder may be removed and made again meanwhile."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_ino == folder.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
