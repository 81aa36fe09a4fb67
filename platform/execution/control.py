"""Where running trials ask whether to stop, and tell how far they are: one actor a driver attempt, without a CPU.

Trials ask, nobody is told: a leg ends by itself at its next evaluation or poll, so nothing has to be killed, and its
actor can be used again. The budget is looked at in each poll, with what the trial itself has spent by then: a driver
that hears of it later would let every trial run for one more interval. A leg of several workers also leaves its rows
here, on their way from its first worker to its Tune actor; and who has not been heard for long is known here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crossover.platform.search.budget import Budget
from crossover.trainers.rows import StopReason
from crossover.trainers.run import Progress, StopRequest

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["ControlState", "start_control"]


class ControlState:
    """What the control actor holds.

    Args:
        budget: as it stands when the attempt starts; None: no limits.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget(None, None)
        self._stratum_of: dict[str, str] = {}
        self._for_all: StopRequest | None = None
        self._for_one: dict[str, StopRequest] = {}
        self._progress: dict[str, Progress] = {}
        self._errors: dict[str, str] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._heard: dict[str, float] = {}
        self._claims: dict[str, str] = {}
        self._trouble: str | None = None

    def poll(self, progress: Progress) -> StopRequest | None:
        """A trial tells where it is, and learns whether to stop. A request for itself goes before one for all."""
        trial_id = progress.trial_id
        self._progress[trial_id] = progress
        self.heard(trial_id)
        self._budget.note(trial_id, progress.flops, progress.ending_flops)
        request = self._for_one.get(trial_id, self._for_all)
        return request or self._out_of_budget(trial_id)

    def leg_begins(self, trial_id: str, stratum: str) -> None:
        """A leg has its worker, and its stratum pays for it."""
        self._stratum_of[trial_id] = stratum
        self._budget.place(trial_id, stratum)
        self._budget.leg_started(trial_id)
        self.heard(trial_id)

    def _out_of_budget(self, trial_id: str) -> StopRequest | None:
        evidence = self._budget.exhausted() or self._budget.exhausted(self._stratum_of.get(trial_id, ""))
        return None if evidence is None else StopRequest("budget", evidence)

    def request_stop(self, trial_id: str | None, reason: StopReason, evidence: str) -> None:
        """Asks one trial to stop, or all (None). The first request for all stands."""
        request = StopRequest(reason, evidence)
        if trial_id is not None:
            self._for_one[trial_id] = request
        elif self._for_all is None:
            self._for_all = request

    def heard(self, trial_id: str) -> None:
        """A leg is alive: from now on it is expected to be heard again."""
        self._heard[trial_id] = time.monotonic()

    def waits(self, trial_id: str) -> None:
        """A leg waits for machines, which can take any time: it is not expected to be heard."""
        self._heard.pop(trial_id, None)

    def silent(self, seconds: float) -> list[str]:
        """Trials whose leg is expected to be heard, and has not been for so long."""
        now = time.monotonic()
        return [trial_id for trial_id, heard in self._heard.items() if now - heard > seconds]

    def claims(self, trial_id: str, name: str) -> None:
        """A leg in Ray Train has a claim on the cluster under that name, until its own end takes it back."""
        self._claims[trial_id] = name

    def take_claim(self, trial_id: str) -> str | None:
        """The claim of a leg, to be taken back for it."""
        return self._claims.pop(trial_id, None)

    def row(self, trial_id: str, row: dict[str, Any]) -> None:
        """A worker hands over an evaluation for its leg's Tune actor."""
        self._rows.setdefault(trial_id, []).append(row)
        self.heard(trial_id)

    def take_rows(self, trial_id: str) -> list[dict[str, Any]]:
        """Evaluations of a trial that were handed over since the last call."""
        return self._rows.pop(trial_id, [])

    def worker_failed(self, trial_id: str, error: str) -> None:
        """A worker failed. The first error stands: what the others then say of it is less to the point."""
        self._errors.setdefault(trial_id, error)

    def leg_over(self, trial_id: str, error: str | None = None) -> None:
        """A leg has ended; with an error if it failed, behind which may stand one of a worker."""
        self._budget.leg_ended(trial_id)
        if (last := self._progress.get(trial_id)) is not None:
            self._budget.note(trial_id, last.flops)
        for known in (self._progress, self._for_one, self._heard, self._rows):
            known.pop(trial_id, None)
        if error is None:
            self._errors.pop(trial_id, None)
        else:
            self._errors.setdefault(trial_id, error)

    def cannot_store(self, error: str) -> None:
        """A leg could not write, or reach its record: every trial is asked to stop, since none can."""
        self._trouble = self._trouble or error
        self.request_stop(None, "interrupted", error)

    def storage_trouble(self) -> str | None:
        """What the first leg said that could not write; None: all can."""
        return self._trouble

    def take_error(self, trial_id: str) -> str | None:
        """The error of the trial's last leg; None: it could not say."""
        return self._errors.pop(trial_id, None)

    def progress(self) -> dict[str, Progress]:
        """Where every running trial is, by its id."""
        return dict(self._progress)


def start_control(name: str, namespace: str, budget: Budget | None = None) -> ActorHandle[Any]:
    """Starts the actor of one attempt on the driver's machine. It ends with the driver, or when it is killed.

    Args:
        name: of the actor.
        namespace: its Ray namespace.
        budget: what has been spent, and the limits.
    """
    actor_class: Any = ray.remote(ControlState)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "namespace": namespace, "num_cpus": 0, "scheduling_strategy": here}
    actor: ActorHandle[Any] = actor_class.options(**options).remote(budget)
    ray.get(actor.progress.remote())
    return actor
