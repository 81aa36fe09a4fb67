"""What `--dry-run` says of limits: how much of the study each of them pays for, and what it takes on the disk."""

from __future__ import annotations

from collections.abc import Iterator

from crossover.platform.execution.checkpoint_quota import largest_checkpoint, needed_bytes
from crossover.platform.execution.display import duration
from crossover.platform.execution.preflight import room_here
from crossover.platform.study import Study
from crossover.platform.study.units import bytes_text
from crossover.trainers.record import EVALUATION_SCHEMA
from crossover.trainers.trial_setup import TrialSetup

__all__ = ["limit_remarks", "record_bytes"]

_CELL_BYTES = 9  # a number and its validity
_WINDOW_BYTES = 4  # float32
_FACTS_BYTES = 3 * 8
_FILE_HEADER_BYTES = 128 + 160  # of a NumPy file, and its digest in the commit
_TRIAL_BYTES = 12_000  # trial.json with versions, end.json, the schema of the rows


def record_bytes(setup: TrialSetup) -> float:
    """What the record of a trial takes that runs to its last epoch, without checkpoints: rows and windows' losses."""
    validation, test, times = setup.validation.num, setup.test.num, len(setup.evaluation_steps)
    row = len(EVALUATION_SCHEMA) * _CELL_BYTES + validation * _WINDOW_BYTES + _FILE_HEADER_BYTES
    return times * row + test * _WINDOW_BYTES + (validation + test) * _FACTS_BYTES + _TRIAL_BYTES


def limit_remarks(study: Study, *, flops: float, seconds: float, num_trials: int, record_bytes: float) -> Iterator[str]:
    """A line for each limit that is set, and one for the disk.

    Args:
        study: the study.
        flops: that it would take, run to the end.
        seconds: of one worker alone.
        num_trials: in all.
        record_bytes: of rows.
    """
    budget, devices = study.budget, study.resources.devices_per_worker
    slots = _slots(study)
    if budget.trials is not None:
        yield f"budget.trials = {budget.trials:,}: {num_trials:,} trials are made."
    if budget.flops is not None:
        yield f"budget.flops = {budget.flops:.2e} pays for {_share(budget.flops, flops)}."
    if budget.device_hours is not None:
        hours = seconds * devices / 3600
        pays = _share(budget.device_hours, hours)
        yield f"budget.device_hours = {budget.device_hours:g} pays for {pays} ({hours:.3g})."
    if budget.wall_seconds is not None:
        pays = _share(budget.wall_seconds, seconds / slots)
        yield f"budget.wall_seconds ends it after {duration(budget.wall_seconds)}, which pays for {pays}."
    yield _disk(study, num_trials, slots, record_bytes)


def _slots(study: Study) -> int:
    """Trials at once on a machine like this one."""
    workers = study.resources.given_workers
    return max(1, room_here(study.resources).num_workers // (1 if workers is None else workers.max))


def _share(limit: float, wanted: float) -> str:
    return "all of it" if wanted <= limit else f"{limit / wanted:.0%} of it"


def _disk(study: Study, num_trials: int, slots: int, record_bytes: float) -> str:
    size, quota = largest_checkpoint(study), study.checkpoints.max_bytes
    everything = num_trials * (size.total_bytes + size.best_bytes) + slots * size.total_bytes
    least = needed_bytes(study, slots)
    if quota is None:
        checkpoints = f"up to {bytes_text(everything)} of checkpoints"
        if least < everything:
            checkpoints += f" (checkpoints.max_bytes could keep them to {bytes_text(least)})"
    else:
        kept = f"keeps them to {bytes_text(min(quota, everything))}"
        words = kept if quota >= least else f"will be refused, {bytes_text(least)} can be needed at once"
        checkpoints = f"checkpoints.max_bytes = {bytes_text(quota)} {words}"
    return f"Disk: {checkpoints}; {bytes_text(record_bytes)} of rows and losses."
