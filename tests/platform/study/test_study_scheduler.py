"""What a study may say of its scheduler and its budget, and what the planner is given of it."""

from __future__ import annotations

from typing import Any

import pytest

from crossover.platform.search.study_plan import budget_of, plan_of, scheduler_of
from crossover.platform.study import Study, StudyError, read_study, study_of


def document(search: dict[str, Any], budget: dict[str, Any] | None = None, **fixed: Any) -> dict[str, Any]:
    return {
        "name": "example",
        "data": {"corpus": "python-stdlib", "unique_tokens": 8192},
        "fixed": {"model.size": "400k", "schedule.epochs": 100, **{k.replace("__", "."): v for k, v in fixed.items()}},
        "axes": {
            "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
            "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        },
        "search": {"trials": 18, **search},
        "budget": budget or {},
    }


def made(search: dict[str, Any], budget: dict[str, Any] | None = None, **fixed: Any) -> Study:
    return study_of(document(search, budget, **fixed), "study example")


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({"rungs": {"first_epoch": 100}}, "first_epoch = 100, but the longest trial of stratum"),
        ({"rungs": {"first_epoch": 0.5}}, "trials are evaluated from epoch 1 on"),
        ({"rungs": {"eta": 1}}, "search.rungs.eta"),
        ({"rungs": {"first_epoch": 0}}, "search.rungs.first_epoch"),
        ({"scheduler": "none", "rungs": {"eta": 4}}, "search.rungs: scheduler: none has no rungs"),
        ({"patience_fraction": 0.3}, "search.patience_fraction is for scheduler: patient_halving"),
        ({"scheduler": "patient_halving", "patience_fraction": 1.5}, "search.patience_fraction"),
        ({"scheduler": "hyperband", "asynchronous": True}, "search.asynchronous is for scheduler: cohort_halving"),
        ({"scheduler": "none", "cohort": 4}, "search.cohort: with scheduler: none nothing is decided in cohorts"),
        ({"asynchronous": True, "cohort": 4}, "search.cohort: with asynchronous: true nothing"),
        ({"scheduler": "asha", "cohort": 4}, "search.cohort: with scheduler: asha"),
        ({"cohort": 0}, "search.cohort"),
        ({"scheduler": "cohort_halving", "trials": 1}, "no stratum has two configurations"),
    ],
)
def test_scheduler_that_is_set_wrongly_is_refused_before_the_start(search: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError) as caught:
        made(search)
    assert says in str(caught.value)


def test_rungs_for_which_trials_are_too_short_are_refused_only_where_they_were_asked_for() -> None:
    assert made({}, schedule__epochs=2).search.scheduler == "cohort_halving"
    with pytest.raises(StudyError) as caught:
        made({"scheduler": "cohort_halving"}, schedule__epochs=2)
    assert "no rung lies between the first evaluation, at epoch 1, and the last epoch, 2" in str(caught.value)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"split": "shared"}, "budget.split: there is no budget.flops to split"),
        ({"flops": 1e14, "split": {"objective=autoregressiv": 1.0}}, "did you mean objective=autoregressive?"),
        ({"flops": 1e14, "split": {"objective=autoregressive": 1.0}}, "has no share: give every stratum one"),
        (
            {"flops": 1e14, "split": {"objective=autoregressive": 0.7, "objective=masked_diffusion": 0.7}},
            "the shares sum to 1.4",
        ),
        ({"trials": 1}, "budget.trials = 1, but 2 strata"),
        ({"flops": 1e10}, "less than one trial, whose training alone takes"),
        ({"flops": 1e10, "split": "shared"}, "budget.flops = 1e+10: less than one trial"),
        (
            {"flops": 1e14, "split": {"objective=autoregressive": 1e-6, "objective=masked_diffusion": 0.5}},
            "of which stratum objective=autoregressive may spend 1e+08: less than one trial",
        ),
        ({"device_hours": 0}, "budget.device_hours"),
    ],
)
def test_budget_that_cannot_be_is_refused_before_the_start(budget: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError) as caught:
        made({}, budget)
    assert says in str(caught.value)


def test_budget_is_split_equally_unless_set() -> None:
    equal = budget_of(made({}, {"flops": 1e14}))
    assert dict(equal.shares) == {"objective=autoregressive": 0.5, "objective=masked_diffusion": 0.5}
    assert budget_of(made({}, {"flops": 1e14, "split": "shared"})).shares == {}
    shares = {"objective=autoregressive": 0.2, "objective=masked_diffusion": 0.7}
    assert budget_of(made({}, {"flops": 1e14, "split": shares})).shares == shares


def test_limit_on_trials_is_shared_by_the_strata() -> None:
    study = made({"repeats": 2, "final_repeats": 3}, {"trials": 20})
    assert [study.num_configurations(stratum) for stratum in study.strata()] == [4, 4]  # 2 * (4 * 2 + 1) = 18


@pytest.mark.parametrize(
    ("search", "size"),
    [
        ({"sampler": "random"}, 9),
        ({"sampler": "tpe"}, 9),
        ({"sampler": "tpe", "trials": 8}, 8),
        ({"sampler": "tpe", "trials": 64}, 16),
        ({"sampler": "tpe", "cohort": 6}, 6),
    ],
)
def test_configurations_are_drawn_in_parts(search: dict[str, Any], size: int) -> None:
    plan = plan_of(made(search), "hash")
    assert [stratum.cohort_size for stratum in plan.strata] == [size, size]


def test_a_grid_is_drawn_whole_since_a_part_would_be_a_corner_of_it() -> None:
    asked = document({"sampler": "grid"})
    del asked["search"]["trials"]
    asked["axes"]["optimizer.learning_rate"] = {"choice": [1e-4 * step for step in range(1, 19)], "role": "nuisance"}
    assert [stratum.cohort_size for stratum in plan_of(study_of(asked, "a"), "hash").strata] == [18, 18]


def test_horizon_and_length_of_trials_follow_the_epochs() -> None:
    study = document({})
    del study["fixed"]["schedule.epochs"]
    study["axes"]["schedule.epochs"] = {"choice": [10, 40], "role": "nuisance"}
    stratum = plan_of(study_of(study, "study example"), "hash").strata[0]
    assert (stratum.horizon.unique_tokens, stratum.horizon.max_epochs) == (8192, 40.0)
    assert stratum.max_tokens({"schedule.epochs": 10}) == 81_920


def test_asynchronous_halving_is_chosen_by_its_option() -> None:
    assert not scheduler_of(made({"asynchronous": True})).synchronous
    assert scheduler_of(made({})).synchronous
    settings = scheduler_of(made({"scheduler": "patient_halving", "patience_fraction": 0.2})).settings
    assert settings.patience_fraction == 0.2


@pytest.mark.parametrize("name", ["quickstart", "crossover-cpu"])
def test_first_studies_halve_nothing(name: str) -> None:
    assert read_study(name).search.scheduler == "none"
