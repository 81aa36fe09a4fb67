"""Lets the tests here import their helper by name: with `--import-mode=importlib` a test's folder is no path entry."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
