"""The embedded corpora: `python-stdlib`, the sources of the running interpreter's own standard library, and
`python-stdlib-tiers`, the same text in tiers of quality by compression ratio.

About 12 MB without its tests; nothing is downloaded. Prepared in about a second on first use, into a cache folder
keyed by the interpreter's build: every process that comes at once makes the same bytes, and the first rename wins.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from pathlib import Path

from crossover.trainers.data.locations import local_input
from crossover.trainers.data.manifest import FORMAT_VERSION, MANIFEST_NAME, SplitName
from crossover.trainers.data.prepare import CorpusSettings, prepare_files
from crossover.trainers.data.sources import find_files
from crossover.trainers.errors import CorpusError

__all__ = ["EMBEDDED", "PYTHON_STDLIB", "cache_folder", "library_files", "python_stdlib_folder"]

PYTHON_STDLIB = "python-stdlib"
EMBEDDED: dict[str, str | None] = {PYTHON_STDLIB: None, f"{PYTHON_STDLIB}-tiers": "compression"}  # name -> scorer

# Budgets here are a sliver of 10 MB, and errors are clustered by document: more of them are held out than by default.
_FRACTIONS: dict[SplitName, float] = {"training": 0.8, "validation": 0.1, "test": 0.1}

_LEFT_OUT_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})
# Written by whoever built or installed the interpreter, full of the paths of that machine: no part of the library.
_LOCAL = ("_sysconfigdata", "sitecustomize", "usercustomize", "config-")


def python_stdlib_folder(name: str, cache_dir: Path | None = None) -> Path:
    """Folder of the prepared corpus, made on first use.

    Args:
        name: of an embedded corpus.
        cache_dir: folder for caches; by default $CROSSOVER_CACHE, else ~/.cache/crossover.

    Raises:
        CorpusError: the interpreter has no sources of its library, or the cache cannot be written.
    """
    folder = cache_folder(cache_dir) / "corpora" / name / _build_key()
    if os.access(folder / MANIFEST_NAME, os.R_OK):
        return folder
    library = _library()
    files = library_files(library)
    if not files:
        raise CorpusError(f"corpus {name}: {library} holds no Python sources: use an interpreter that has them")
    version = f"{platform.python_implementation()} {sys.version}"
    # Near-duplicates stay: what was measured on this corpus, and is committed, had them.
    settings = CorpusSettings(
        name,
        (str(library),),
        version,
        errors="replace",
        fractions=_FRACTIONS,
        near_duplicates=None,
        quality=EMBEDDED[name],
    )
    prepare_files([local_input(path) for path in files], folder, settings, reuse=True)
    return folder


def library_files(library: Path) -> list[Path]:
    """Sources of a standard library: no tests, no installed packages, nothing that describes the building machine."""
    found = find_files([library], left_out=_LEFT_OUT_FOLDERS)
    return [
        path for path in found if path.suffix == ".py" and not path.relative_to(library).parts[0].startswith(_LOCAL)
    ]


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _build_key() -> str:
    build = hashlib.sha256(f"{sys.version}\n{_library()}\n{_FRACTIONS}".encode()).hexdigest()[:12]
    return f"{sys.implementation.name}-{platform.python_version()}-{build}-format{FORMAT_VERSION}"


def cache_folder(cache_dir: Path | None) -> Path:
    """Folder for caches: the one given, else $CROSSOVER_CACHE, else ~/.cache/crossover.

    Raises:
        CorpusError: there is none.
    """
    if cache_dir is not None:
        return cache_dir
    if named := os.environ.get("CROSSOVER_CACHE"):
        return Path(named)
    try:
        return Path.home() / ".cache" / "crossover"
    except RuntimeError:
        raise CorpusError("there is no home folder for caches: set CROSSOVER_CACHE to a folder") from None
