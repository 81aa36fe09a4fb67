"""Ends what a leg leaves behind that did not end by itself: killed, crashed or hung, the next one always starts.

The leg's actor goes first, and Ray Train's controller with it, which would else make a new placement group; then what
it had placed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.tune import Callback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from crossover.platform.execution.leg import TrialContext, placement_group_prefix

__all__ = ["Reaper"]

_LOOK_SECONDS = 1.0


class Reaper(Callback):
    """Hears from Tune how trials end, and from the control actor which ones say nothing.

    Args:
        context: of the study's legs.
        control: the control actor.
        say: tells the user.
    """

    def __init__(self, context: TrialContext, control: Any, say: Callable[[str], None]) -> None:
        self._context, self._control, self._say = context, control, say
        self._actors: dict[str, Any] = {}
        self._looked = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Notes who runs where, and kills legs that have been silent for too long."""
        running = [trial for trial in trials if trial.status == "RUNNING"]
        for trial in running:
            if (actor := trial.temporary_state.ray_actor) is not None:  # gone when the end of the trial is told
                self._actors[trial.trial_id] = actor
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._kill_silent(running)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A leg that returned has nothing left; its actor may be used again."""
        self._actors.pop(trial.trial_id, None)
        self._remove_placement_groups(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A leg that failed may have left anything."""
        actor = self._actors.pop(trial.trial_id, None)
        if actor is not None:
            ray.kill(actor)
        self._remove_placement_groups(trial)
        trial_id = trial.config["trial_id"]
        if (claim := ray.get(self._control.take_claim.remote(trial_id))) is not None:
            from crossover.platform.execution.ray_private import take_back_claim  # loads Ray Train, 3 s

            take_back_claim(claim)
        ray.get(self._control.leg_over.remote(trial_id))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The same, should Tune itself try again."""
        self.on_trial_error(iteration, trials, trial)

    def _kill_silent(self, running: list[Any]) -> None:
        seconds = self._context.study.resources.hang_seconds
        silent = set(ray.get(self._control.silent.remote(seconds)))
        for trial in running:
            trial_id, actor = trial.config["trial_id"], self._actors.get(trial.trial_id)
            if trial_id in silent and actor is not None:
                error = f"it said nothing for resources.hang_seconds = {seconds:g} and was killed"
                self._say(f"killing a leg of {trial_id}: {error}")
                ray.get(self._control.leg_over.remote(trial_id, error))
                ray.kill(actor)

    def _remove_placement_groups(self, trial: Any) -> None:
        if not self._context.study.resources.uses_ray_train:
            return
        prefix = placement_group_prefix(self._context, trial.config)
        for group in ray.util.placement_group_table().values():
            if group["name"].startswith(prefix) and group["state"] != "REMOVED":
                group_id = ray.PlacementGroupID(bytes.fromhex(group["placement_group_id"]))
                remove_placement_group(PlacementGroup(group_id))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into its folder; they are never read back
