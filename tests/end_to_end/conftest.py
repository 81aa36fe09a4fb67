"""Helpers that are imported by name: with `--import-mode=importlib` a test's folder is no path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
