"""`checkpoints.max_bytes`: the checkpoints of a whole study, kept within a quota at every moment.

Before a leg starts, room is made for all that the running trials may write at once: three checkpoints (two are kept
while the next is written) and as many best weights. What goes first is what costs least: the training state of trials
that have ended, then the best weights of those that are not the best of their stratum, the worst first, and then the
older of the two checkpoints of trials that wait. Rows are never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crossover.platform.execution.view import StudyView, TrialView
from crossover.platform.search.study_plan import cohort_sizes, scheduler_of
from crossover.platform.storage.space import Space
from crossover.platform.study import Study
from crossover.platform.study.constraints import CheckpointSize, checkpoint_size
from crossover.platform.study.units import bytes_text
from crossover.search_spaces import corners
from crossover.trainers.errors import CrossoverError
from crossover.trainers.record_space import Droppable

__all__ = ["CheckpointQuota", "best_trials", "check_quota", "largest_checkpoint", "needed_bytes"]

_WHILE_WRITING = 3
_SMALL_FILES_BYTES = 64 * 2**10
_ORDER = {"training state": 0, "best weights": 1, "older checkpoint": 2}


def largest_checkpoint(study: Study) -> CheckpointSize:
    """The largest that a trial of a study can have, over all strata and the ends of their axes."""
    configs = (
        study.trial_config(stratum, settings)
        for stratum in study.strata()
        for settings in corners(study.space, stratum)
    )
    return max((checkpoint_size(config) for config in configs), key=lambda size: size.total_bytes)


def running_bytes(size: CheckpointSize) -> int:
    """What a trial may have on the disk while it runs."""
    return _WHILE_WRITING * size.total_bytes + _SMALL_FILES_BYTES


def needed_bytes(study: Study, slots: int) -> int:
    """What checkpoints need at most when nothing more can be dropped.

    Args:
        study: the study.
        slots: trials that run at once.
    """
    size, waiting, best = largest_checkpoint(study), 0, len(study.strata()) * study.search.num_final_repeats
    if scheduler_of(study).has_rungs:
        waiting = max(0, sum(cohort_sizes(study).values()) * study.search.repeats - slots)
    small = (waiting + best) * _SMALL_FILES_BYTES
    return slots * running_bytes(size) + waiting * size.total_bytes + best * size.best_bytes + small


def check_quota(study: Study, slots: int) -> None:
    """Refuses a quota that could not be kept.

    Raises:
        CrossoverError: it is less than what the study may need at once.
    """
    quota, needed = study.checkpoints.max_bytes, needed_bytes(study, slots)
    if quota is not None and quota < needed:
        raise CrossoverError(
            f"checkpoints.max_bytes = {bytes_text(quota)}, but {slots} running trials, the trials that wait at a rung "
            f"and the best of every stratum can need {bytes_text(needed)} at once: raise it, or set a smaller "
            "search.cohort or scheduler: none"
        )


def best_trials(view: StudyView) -> set[str]:
    """Trials of the best configuration of every stratum, whose best weights are kept."""
    kept: set[str] = set()
    for stratum in view.strata.values():
        if (best := stratum.best) is not None:
            kept |= {i for i, trial in stratum.trials.items() if trial.config_hash == best.config_hash}
    return kept


@dataclass
class CheckpointQuota:
    """Keeps the checkpoints of a study within its quota.

    Args:
        study: the study.
        space: where its records lie.
        view: of its trials.
    """

    study: Study
    space: Space
    view: StudyView
    _bytes: dict[str, int] = field(default_factory=dict)
    _running_bytes: int = 0

    def __post_init__(self) -> None:
        if self.study.checkpoints.max_bytes is not None:
            self._running_bytes = running_bytes(largest_checkpoint(self.study))

    def changed(self, trial_id: str) -> None:
        """A leg of a trial has ended: what it left is counted anew."""
        self._bytes.pop(trial_id, None)

    def make_room(self, live: Iterable[str]) -> str | None:
        """Drops what has to go before what runs may write all that it can.

        Args:
            live: trials that run, or are about to.

        Returns:
            Why there is not enough room; None: there is.
        """
        quota, running = self.study.checkpoints.max_bytes, set(live)
        if quota is None:
            return None
        waiting = [trial for trial in self.view.trials if trial.trial_id not in running]
        over = sum(map(self._size, waiting)) + len(running) * self._running_bytes - quota
        if over > 0:
            over -= self._drop(waiting, over)
        if over <= 0:
            return None
        return f"checkpoints.max_bytes = {bytes_text(quota)} cannot be kept, {bytes_text(over)} are missing: raise it"

    def _size(self, trial: TrialView) -> int:
        if trial.trial_id not in self._bytes:
            self._bytes[trial.trial_id] = self.space.checkpoint_bytes(trial.trial_id)
        return self._bytes[trial.trial_id]

    def _drop(self, waiting: list[TrialView], wanted: int) -> int:
        """The cheapest first, until enough was dropped; the bytes that this gave."""
        kept, freed = best_trials(self.view), 0
        found = [
            (_ORDER[one.kind], -(trial.best or 0.0), trial.trial_id, one)
            for trial in waiting
            if self._size(trial)
            for one in self.space.droppable(trial.trial_id, keeps_best=trial.trial_id in kept)
        ]
        for _, _, trial_id, one in sorted(found, key=lambda entry: entry[:3]):
            if freed >= wanted:
                break
            freed += self.space.drop(one)
            self.changed(trial_id)
        return freed


def droppable_of_study(view: StudyView, space: Space) -> list[Droppable]:
    """What of the checkpoints of a study that does not run can go."""
    kept = best_trials(view)
    return [one for trial in view.trials for one in space.droppable(trial.trial_id, keeps_best=trial.trial_id in kept)]
