"""The one small tree of errors that a user's mistake raises.

Each message says what is wrong, the value, the rule and what to set; the command line prints it and no traceback.
"""

from __future__ import annotations

__all__ = ["ConfigError", "CorpusError", "CrossoverError", "RecordError"]


class CrossoverError(Exception):
    """A mistake of the user, or of what the user gave: exit code 2, one message, no traceback."""


class ConfigError(CrossoverError):
    """A configuration that cannot be run."""


class CorpusError(CrossoverError):
    """A corpus that is missing, damaged or too small."""


class RecordError(CrossoverError):
    """A trial's record that is damaged, or belongs to something else."""
