"""Lets the tests here import their helper by name: with `--import-mode=importlib` a test's folder is no path entry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from synthetic_study import SyntheticStudy


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with both recipes and three seeds; tests only read it."""
    return SyntheticStudy().write(tmp_path_factory.mktemp("runs") / "synthetic")
