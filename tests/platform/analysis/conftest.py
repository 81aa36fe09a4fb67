"""What tests of the analysis share."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_study import SyntheticStudy


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with both recipes and three seeds; tests only read it."""
    return SyntheticStudy().write(tmp_path_factory.mktemp("runs") / "synthetic")
