"""Where a number comes from: the code's commit and the versions of what computed it.

Versions are read from installed metadata, so nothing is imported for them.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Provenance", "provenance"]

_PACKAGES = ("crossover", "numpy", "pyarrow", "ray", "safetensors", "torch")


@dataclass(frozen=True)
class Provenance:
    """What to write beside a result.

    Args:
        git_commit: of the checkout that holds this package, else of the working directory; None where there is none.
            A checkout with changes that are not committed ends in `-dirty`.
        packages: version of each package that is installed.
        python: version of the interpreter.
    """

    git_commit: str | None
    packages: dict[str, str]
    python: str


@cache
def provenance() -> Provenance:
    """The provenance of this process."""
    return Provenance(
        git_commit=_commit_of(Path(__file__).parent) or _commit_of(Path.cwd()),
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
        python=platform.python_version(),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit_of(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--match=", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None if described.returncode == 0 else None
