"""Who goes on at a rung: one interface, one file a rule. Import a scheduler here and it is known by its name."""

from crossover.platform.search.rungs import Horizon, rung_epochs
from crossover.platform.search.schedulers import (
    asha,
    asynchronous,
    halving,
    hyperband,
    median,
    none,
    patient,
)
from crossover.platform.search.schedulers.base import (
    RungDecision,
    Scheduler,
    SchedulerSettings,
    get_scheduler,
    register_scheduler,
    scheduler_names,
)
from crossover.platform.search.schedulers.cohort import Cohort, Configuration, CurvePoint, Reached, Standing

__all__ = [
    "Cohort",
    "Configuration",
    "CurvePoint",
    "Horizon",
    "Reached",
    "RungDecision",
    "Scheduler",
    "SchedulerSettings",
    "Standing",
    "asha",
    "asynchronous",
    "get_scheduler",
    "halving",
    "hyperband",
    "median",
    "none",
    "patient",
    "register_scheduler",
    "rung_epochs",
    "scheduler_names",
]
