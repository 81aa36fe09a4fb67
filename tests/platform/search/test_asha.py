"""Our ASHA takes the decisions of Ray's own on the same sequence of results."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from crossover.platform.search.rungs import Horizon
from crossover.platform.search.schedulers import Cohort, Reached, SchedulerSettings, Standing, get_scheduler


def standing(trial: int, stratum: str, reached: tuple[Reached, ...], passed: int, state: str) -> Standing:
    kind: Any = state
    return Standing(f"t{trial}", stratum, trial, 0, "h", kind, None, reached, passed)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_same_decisions_as_ray_on_a_recorded_sequence(eta: int, seed: int) -> None:
    last = float(eta**4)
    # Evaluations are on the rungs themselves, so that both look at the same values; eta^4 is where Ray ends anyway.
    horizon = Horizon(unique_tokens=1, max_epochs=last, first_evaluation=1.0, evaluation_ratio=float(eta))
    ours = get_scheduler("asha", SchedulerSettings(eta, 1.0))
    cohort = Cohort(size=40, horizon=horizon)
    rungs = ours.rungs(cohort, 0)
    assert list(rungs) == [float(eta**power) for power in range(4)]
    theirs = AsyncHyperBandScheduler("t", "loss", "min", max_t=int(last), grace_period=1, reduction_factor=eta)
    draw = random.Random(seed)
    running = dict.fromkeys(range(40), 0)
    for trial in running:
        theirs.on_trial_add(None, SimpleNamespace(trial_id=f"t{trial}"))  # type: ignore[arg-type]
    values: dict[int, tuple[Reached, ...]] = dict.fromkeys(running, ())
    stopped = 0
    while running:
        trial = draw.choice(list(running))
        rung, value = running[trial], draw.gauss(3, 1) - 0.5 * running[trial]
        values[trial] += (Reached(value, 0.0),)
        stratum = "fast" if trial % 2 else "slow"
        cohort.put(standing(trial, stratum, values[trial], rung, "paused"))
        (decision,) = ours.decide(cohort)
        asked: Any = SimpleNamespace(trial_id=f"t{trial}")
        answer = theirs.on_trial_result(None, asked, {"t": rungs[rung], "loss": value})  # type: ignore[arg-type]
        assert (decision.action == "stop") == (answer == TrialScheduler.STOP), decision.reason
        if decision.action == "stop":
            stopped += 1
            del running[trial]
            cohort.put(standing(trial, stratum, values[trial], rung, "ended"))
        else:
            running[trial] += 1
            cohort.put(standing(trial, stratum, values[trial], rung + 1, "running"))
            if running[trial] == len(rungs):
                del running[trial]
    assert 10 < stopped < 40
