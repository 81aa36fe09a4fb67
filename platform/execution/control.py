"""Where running trials ask whether to stop, and tell how far they are: one actor a driver attempt, without a CPU.

Trials ask, nobody is told: a leg ends by itself at its next evaluation or poll, so nothing has to be killed, and its
actor can be used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from crossover.trainers.rows import StopReason
from crossover.trainers.run import Progress, StopRequest

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["ControlState", "start_control"]


class ControlState:
    """What the control actor holds."""

    def __init__(self) -> None:
        self._for_all: StopRequest | None = None
        self._for_one: dict[str, StopRequest] = {}
        self._progress: dict[str, Progress] = {}
        self._errors: dict[str, str] = {}

    def poll(self, progress: Progress) -> StopRequest | None:
        """A trial tells where it is, and learns whether to stop. A request for itself goes before one for all."""
        self._progress[progress.trial_id] = progress
        return self._for_one.get(progress.trial_id, self._for_all)

    def request_stop(self, trial_id: str | None, reason: StopReason, evidence: str) -> None:
        """Asks one trial to stop, or all (None). The first request for all stands."""
        request = StopRequest(reason, evidence)
        if trial_id is not None:
            self._for_one[trial_id] = request
        elif self._for_all is None:
            self._for_all = request

    def leg_over(self, trial_id: str, error: str | None = None) -> None:
        """A leg has ended; with an error if it failed."""
        self._progress.pop(trial_id, None)
        self._for_one.pop(trial_id, None)
        if error is not None:
            self._errors[trial_id] = error

    def take_error(self, trial_id: str) -> str | None:
        """The error of the trial's last leg; None: it could not say."""
        return self._errors.pop(trial_id, None)

    def progress(self) -> dict[str, Progress]:
        """Where every running trial is, by its id."""
        return dict(self._progress)


def start_control(name: str, namespace: str) -> ActorHandle[Any]:
    """Starts the actor of one attempt. It ends with the driver, or when its handle is killed."""
    actor_class: Any = ray.remote(ControlState)
    actor: ActorHandle[Any] = actor_class.options(name=name, namespace=namespace, num_cpus=0).remote()
    ray.get(actor.progress.remote())
    return actor
