"""Makes the helpers of this folder importable by name: with `--import-mode=importlib` a test's folder is no path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
