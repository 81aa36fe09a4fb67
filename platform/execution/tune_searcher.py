"""The planner, as Tune asks it: a `Searcher` that answers with the next leg.

Tune asks one suggestion ahead and keeps a record of its own; the planner's slots bound how many legs live, and nothing
of Tune's is ever read back. A Tune trial id is the name of a leg, never of a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.search import Searcher

from crossover.platform.search.plan import Finished, Leg, LegStatus, Wait
from crossover.platform.search.planner import Planner

__all__ = ["LegObserver", "TuneSearcher"]


class LegObserver(Protocol):
    """Who is told what happens to legs, in the driver's main thread."""

    def leg_started(self, leg: Leg) -> None:
        """A leg was given to Tune."""

    def row(self, leg: Leg, row: dict[str, Any]) -> None:
        """A leg reported an evaluation."""

    def leg_ended(self, leg: Leg, status: LegStatus, error: str | None) -> None:
        """A leg has ended."""


class TuneSearcher(Searcher):
    """Answers Tune from the planner.

    Args:
        planner: decides.
        observer: is told.
        error_of: error of the trial whose leg just failed, as far as it could say.
    """

    def __init__(self, planner: Planner, observer: LegObserver, error_of: Callable[[str], str | None]) -> None:
        super().__init__(metric=None, mode=None)
        self._planner = planner
        self._observer = observer
        self._error_of = error_of
        self._legs: dict[str, Leg] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next leg; None: wait; FINISHED, which Tune types as no string: there will be no more."""
        leg = self._planner.next_leg()
        if isinstance(leg, Wait):
            return None
        if isinstance(leg, Finished):
            finished: Any = Searcher.FINISHED
            return finished  # type: ignore[no-any-return]
        self._legs[trial_id] = leg
        self._observer.leg_started(leg)
        return config_of(leg)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An evaluation; the row that only says how a leg ended is none."""
        if "leg_status" not in result and "val_loss" in result:
            self._observer.row(self._legs[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A leg ended. A leg that vanished without saying how has failed."""
        leg = self._legs.pop(trial_id)
        status: LegStatus = "failed" if error or not result else result.get("leg_status", "failed")
        cause = None
        if status == "failed":
            cause = self._error_of(leg.trial_id) or "its worker died (killed, or out of memory)"
        self._planner.leg_ended(leg.trial_id, status, cause)
        self._observer.leg_ended(leg, status, cause)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save: the decisions and the records are the truth."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's folder."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its arguments into its folder; this one is never read back


def config_of(leg: Leg) -> dict[str, Any]:
    """What Tune hands to the trial, and writes beside its rows."""
    line = leg.suggested
    return {
        "trial_id": line.trial_id,
        "leg": leg.leg,
        "until_tokens": leg.until_tokens,
        "stratum": line.stratum_label,
        "scientific": dict(line.stratum),
        "settings": dict(line.settings),
        "number": line.number,
        "repeat": line.repeat,
        "purpose": line.purpose,
    }
