"""What a study says of its scheduler and its budget: do rungs lie where trials are evaluated, is anything ignored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from crossover.platform.search.rungs import Horizon, rung_epochs
from crossover.platform.search.study_rungs import horizon_of
from crossover.platform.study.model import Study
from crossover.search_spaces import Stratum, corners, near

__all__ = ["budget_mistakes", "scheduler_mistakes"]

_MAX_TRIED = 200
_IN_COHORTS = ("cohort_halving", "patient_halving", "hyperband", "median")


def scheduler_mistakes(study: Study) -> list[str]:
    """What is wrong with `search.scheduler` and what goes with it, for a study whose configurations can be built."""
    return [*_ignored(study), *_rung_mistakes(study)]


def _ignored(study: Study) -> Iterator[str]:
    search, given = study.search, study.search.model_fields_set
    name = search.scheduler
    if "rungs" in given and name == "none":
        yield "search.rungs: scheduler: none has no rungs, so it has no effect: remove it, or set another scheduler"
    if "patience_fraction" in given and name != "patient_halving":
        yield "search.patience_fraction is for scheduler: patient_halving, so it has no effect: remove it"
    if search.asynchronous and name != "cohort_halving":
        yield f"search.asynchronous is for scheduler: cohort_halving, and not for {name}: remove it"
    if search.cohort is not None and (name not in _IN_COHORTS or search.asynchronous):
        what = "asynchronous: true" if search.asynchronous else f"scheduler: {name}"
        yield f"search.cohort: with {what} nothing is decided in cohorts, so it has no effect: remove it"


def _rung_mistakes(study: Study) -> Iterator[str]:
    search = study.search
    if search.scheduler == "none":
        return
    horizons = {stratum.label: horizon_of(study, stratum) for stratum in _compared(study)}
    if search.rungs.first_epoch is not None:
        yield from _first_rung_mistakes(search.rungs.first_epoch, horizons)
        return
    asked = "scheduler" in search.model_fields_set or "rungs" in search.model_fields_set
    if asked and not any(rung_epochs(h, search.rungs.eta, None) for h in horizons.values()):
        why = "no stratum has two configurations"
        if horizons:
            label, horizon = next(iter(horizons.items()))
            why = (
                f"no rung lies between the first evaluation, at epoch {horizon.first_evaluation:g}, and the last "
                f"epoch, {horizon.max_epochs:g} (in stratum {label})"
            )
        yield f"search.scheduler = {search.scheduler}, but {why}, so it has no effect: set scheduler: none"


def _first_rung_mistakes(first: float, horizons: dict[str, Horizon]) -> Iterator[str]:
    for label, horizon in horizons.items():
        if first >= horizon.max_epochs:
            yield (
                f"search.rungs.first_epoch = {first:g}, but the longest trial of stratum {label} has "
                f"{horizon.max_epochs:g} epochs: lower it, or set scheduler: none"
            )
            return
        if first < horizon.first_evaluation:
            yield (
                f"search.rungs.first_epoch = {first:g}, but trials are evaluated from epoch "
                f"{horizon.first_evaluation:g} on: raise it, or lower evaluation.first_epoch"
            )
            return


def _compared(study: Study) -> list[Stratum]:
    return [stratum for stratum in study.strata() if study.num_configurations(stratum) > 1]


def budget_mistakes(study: Study) -> list[str]:
    """What is wrong with the budget, for a study whose configurations can be built."""
    split = list(_split_mistakes(study))
    return [*(split or _flops_mistakes(study)), *_trials_mistakes(study)]


def _flops_mistakes(study: Study) -> Iterator[str]:
    """A share that no trial of its stratum can be trained on: its answer would be one that was cut off."""
    budget = study.budget
    if budget.flops is None:
        return
    strata = study.strata()
    for stratum in strata:
        share = budget.split[stratum.label] if isinstance(budget.split, dict) else 1 / len(strata)
        part = budget.flops if budget.split == "shared" else share * budget.flops
        tried = islice(corners(study.space, stratum), _MAX_TRIED)
        least = min(study.cost(stratum, settings).train_flops for settings in tried)
        if part < least:
            of_it = "" if part == budget.flops else f", of which stratum {stratum.label} may spend {part:.3g}"
            yield (
                f"budget.flops = {budget.flops:.3g}{of_it}: less than one trial, whose training alone takes "
                f"{least:.3g} (the cheapest of stratum {stratum.label}): raise it, or lower schedule.epochs"
            )
            return


def _split_mistakes(study: Study) -> Iterator[str]:
    budget = study.budget
    if "split" in budget.model_fields_set and budget.flops is None:
        yield "budget.split: there is no budget.flops to split, so it has no effect: set it, or remove this"
    if isinstance(budget.split, str):
        return
    labels = [stratum.label for stratum in study.strata()]
    for label in budget.split:
        if label not in labels:
            yield f"budget.split: no stratum {label}{near(label, labels)}"
    if missing := [label for label in labels if label not in budget.split]:
        yield f"budget.split: stratum {missing[0]} has no share: give every stratum one"
    elif (total := sum(budget.split.values())) > 1 + 1e-9:
        yield f"budget.split: the shares sum to {total:g}, which is more than 1: lower them"


def _trials_mistakes(study: Study) -> Iterator[str]:
    limit, search = study.budget.trials, study.search
    if limit is None:
        return
    strata = len(study.strata())
    least = strata * search.num_final_repeats
    if limit < least:
        yield (
            f"budget.trials = {limit}, but {strata} strata with {search.num_final_repeats} seeds of one configuration "
            f"need {least}: raise it"
        )
