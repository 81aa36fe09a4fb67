"""Telling others of a study while it runs: Weights & Biases, TensorBoard. Views of the record, never read back."""

from crossover.platform.execution.tracking.tracking import Tracking, check_tracking, open_tracking

__all__ = ["Tracking", "check_tracking", "open_tracking"]
