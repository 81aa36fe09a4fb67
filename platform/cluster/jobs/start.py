"""What a submitted job runs first, on the cluster: `python start.py VERSION run study.yaml ...`.

This file travels with the study and needs nothing but the standard library, so that it can compare versions also where
the cluster has an older Crossover, or none.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["main", "mismatch"]


def mismatch(submitted_by: str) -> str | None:
    """Why this cluster cannot run what that version has submitted; None: it can."""
    remedy = "install the same version on both sides, or send yours along with --wheel FILE"
    try:
        here = version("crossover")
    except PackageNotFoundError:
        return f"Python {sys.executable} of this cluster has no Crossover: {remedy}"
    if here == submitted_by:
        return None
    return f"the study was submitted by Crossover {submitted_by}, and this cluster has {here}: {remedy}"


def main(words: list[str]) -> None:
    """Hands over to the command line, or says why not and ends with code 2."""
    submitted_by, *arguments = words
    if (wrong := mismatch(submitted_by)) is not None:
        sys.stderr.write(f"error: {wrong}\n")
        sys.exit(2)
    from crossover.platform.cli import main as crossover

    sys.argv = ["crossover", *arguments]
    crossover()


if __name__ == "__main__":
    main(sys.argv[1:])
