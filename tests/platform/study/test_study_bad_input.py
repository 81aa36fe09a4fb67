"""Every field of a study wrong in type, range, name, unit or combination: one clear message, before anything starts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crossover.platform.study import StudyError, study_of

GOOD: dict[str, Any] = {
    "name": "example",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8192},
    "fixed": {"model.size": "400k", "schedule.epochs": 10},
    "axes": {
        "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
    },
    "search": {"trials": 4},
}
GONE = object()


def changed(*path: str, to: Any) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    place = document
    for part in path[:-1]:
        place = place.setdefault(part, {})
    if to is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return document


def message_of(document: Any) -> str:
    with pytest.raises(StudyError) as caught:
        study_of(document, "study example")
    return str(caught.value)


def axis(**written: Any) -> dict[str, Any]:
    return {"role": "nuisance", **written}


def test_the_good_study_is_good() -> None:
    assert study_of(GOOD, "study example").name == "example"


@pytest.mark.parametrize(
    ("document", "says"),
    [(None, "this is empty"), ([1], "this is a list"), ("hello", "the single value 'hello'"), (7, "the single value")],
)
def test_document_that_is_no_mapping(document: Any, says: str) -> None:
    assert says in message_of(document)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        # names
        (("nam",), "x", "nam: no such field; did you mean name?"),
        (("search", "trails"), 4, "search.trails: no such field; did you mean trials?"),
        (("search", "metric"), "accuracy", "search.metric = 'accuracy': trials are compared by val_bits_per_byte"),
        (("data", "tokens"), 4, "data.tokens: no such field; did you mean unique_tokens?"),
        (("stopping", "zzz"), 1, "it has rule, patience"),
        (("axes", "objective.name", "choise"), [1], "choise: no such field; did you mean choice?"),
        (("fixed", "optimizer.lerning_rate"), 1e-3, "did you mean optimizer.learning_rate?"),
        (("fixed", "dropout"), 0.1, "fixed.dropout: no such setting; did you mean regularization.dropout?"),
        (("fixed", "model"), 1, "it is a group: set one of model.size"),
        (("axes", "batch_size"), axis(choice=[1]), "did you mean schedule.batch_size?"),
        (("axes", "optimiser.name"), axis(choice=["adamw"]), "did you mean optimizer.name?"),
        (("fixed", "objective.name"), "autoregresive", "fixed.objective.name: axes.objective.name applies everywhere"),
        (("axes", "objective.name", "choice"), ["autoregresive"], "did you mean autoregressive?"),
        # required
        (("name",), GONE, "name: required and not set"),
        (("data",), GONE, "data: required and not set"),
        (("data", "corpus"), GONE, "data.corpus: required and not set"),
        (("axes", "objective.name", "role"), GONE, "role: required and not set"),
        (("fixed", "schedule.epochs"), GONE, "fixed.schedule.epochs: required and not set"),
        (("fixed", "model.size"), GONE, "fixed.model.size: required and not set"),
        (("axes", "objective.name"), GONE, "fixed.objective.name: required and not set"),
        (("search", "trials"), GONE, "search.trials: required and not set"),
        # types
        (("name",), 7, "name: Input should be a valid string (got 7)"),
        (("data",), 7, "data: must be a mapping (got 7)"),
        (("axes",), [1], "axes: must be a mapping"),
        (("axes", "objective.name"), "autoregressive", "axes.objective.name: must be a mapping"),
        (("axes", "objective.name", "choice"), "autoregressive", "choice: must be a list"),
        (("fixed",), None, "fixed: must be a mapping (got None)"),
        (("fixed", "schedule.epochs"), "ten", "fixed.schedule.epochs: Input should be a valid number (got 'ten')"),
        (("fixed", "schedule.epochs"), [1, 2], "fixed.schedule.epochs: a fixed setting is one string"),
        (("fixed", "schedule.batch_size"), 8.5, "valid integer"),
        (("fixed", "schedule.batch_size"), True, "valid integer"),
        (("fixed", "model.tie_embeddings"), "yes", "valid boolean (got 'yes')"),
        (("search", "trials"), 4.5, "search.trials: Input should be a valid integer"),
        (("data", "unique_tokens"), True, "data.unique_tokens: Input should be a valid integer"),
        # ranges
        (("search", "trials"), 0, "search.trials: Input should be greater than or equal to 1 (got 0)"),
        (("data", "unique_tokens"), 0, "data.unique_tokens: Input should be greater than 0 (got 0)"),
        (("data", "sequence_length"), 1, "greater than or equal to 2"),
        (("budget", "flops"), -1.0, "budget.flops: Input should be greater than 0"),
        (("budget", "wall_seconds"), float("nan"), "finite number"),
        (("resources", "gpus_per_worker"), -1, "greater than or equal to 0"),
        (("fixed", "schedule.epochs"), 0, "fixed.schedule.epochs: Input should be greater than 0 (got 0)"),
        (("fixed", "schedule.epochs"), float("inf"), "fixed.schedule.epochs: Input should be"),
        (("axes", "optimizer.learning_rate", "log_uniform"), [0, 1], "a logarithm needs low above 0"),
        (
            ("axes", "optimizer.learning_rate", "log_uniform"),
            [0.1, 7],
            "log_uniform: Input should be less than or equal to 1",
        ),
        (("axes", "regularization.dropout"), axis(choice=[0.0, 1.0]), "axes.regularization.dropout: choice: Input"),
        (
            ("axes", "schedule.batch_size"),
            axis(uniform=[4, 8]),
            "axes.schedule.batch_size: uniform: Input should be a valid integer",
        ),
        (("search", "final_repeats"), 0, "search.final_repeats"),
        # units and words
        (("data", "unique_tokens"), "24q", "data.unique_tokens: the unit 'q' in '24q' is unknown: use k, M"),
        (("data", "unique_tokens"), "many", "data.unique_tokens: 'many' is no count"),
        (("budget", "flops"), "40 Tflops", "budget.flops: the unit 'Tflops'"),
        (
            ("axes", "data.unique_tokens"),
            {"choice": ["8z"], "role": "scientific"},
            "axes: data.unique_tokens: the unit 'z' in '8z' is unknown",
        ),
        (("fixed", "model.size"), "huge", "huge"),
        (("name",), "a/b", "name: 'a/b' must match"),
        (("name",), "../up", "must match"),
        (("storage",), "ftp://host/runs", "'ftp://host/runs': a study is kept in a folder"),
        (("storage",), " ", "is no folder"),
        # names
        (("tracking", "wandb"), "on", "tracking.wandb: Input should be 'disabled', 'offline' or 'online'"),
        (("search", "scheduler"), "ashes", "search.scheduler"),
        (("search", "sampler"), "anneal", "'tpe', 'gp', 'nsga2'"),
        # workers
        (("resources", "workers"), 0, "resources.workers: 0, but a trial needs 1 worker at least"),
        (("resources", "workers"), -2, "resources.workers: -2, but a trial needs 1 worker at least"),
        (("resources", "workers"), "two", "resources.workers: 'two' is no number of workers, and no range such as"),
        (("resources", "workers"), True, "resources.workers: True is no number of workers"),
        (("resources", "workers"), {"min": 4, "max": 2}, "resources.workers: min = 4 is more than max = 2: swap them"),
        (
            ("resources", "workers"),
            {"min": 0, "max": 2},
            "resources.workers.min: Input should be greater",
        ),
        (("resources", "workers"), {"min": 1}, "resources.workers.max: required and not set"),
        (("resources", "workers"), {"min": 1, "mx": 2}, "resources.workers.mx: no such field; did you mean max?"),
        (("resources", "workers"), 3, "resources.workers: 3 workers cannot share schedule.batch_size = 16 evenly"),
        (("fixed", "execution.replicas"), 2, "fixed.execution.replicas = 2, but 1 workers cannot hold 2 whole copies"),
        (("resources", "launcher"), "torchrun", "resources.launcher: Input should be 'auto' or 'ray_train'"),
        (("resources", "gpus_per_worker"), 2, "resources.gpus_per_worker: Input should be less than or equal to 1"),
        (
            ("resources",),
            {"workers": 2, "gpus_per_worker": 0.5},
            "resources: gpus_per_worker = 0.5, but workers of one trial cannot share a GPU",
        ),
        (
            ("resources",),
            {"workers": "auto", "gpus_per_worker": 0.5},
            "resources: gpus_per_worker = 0.5, but workers of one trial cannot share a GPU",
        ),
        (("resources", "workers"), None, "resources.workers: None is no number of workers"),
        (("fixed", "execution.micro_batch_size"), 32, "resources.workers: with 1, execution.micro_batch_size is 32"),
        (("resources", "max_failures"), 1, "resources: max_failures is for trials in Ray Train"),
        (("resources", "hang_seconds"), 0, "resources.hang_seconds: Input should be greater than 0"),
        # combinations
        (("search",), {"trials": 4, "repeats": 3, "final_repeats": 2}, "must be at least search.repeats = 3"),
        (("fixed", "regularization.input_noise"), 0.1, "(in stratum objective=masked_diffusion)"),
        (
            ("axes", "regularization.input_noise"),
            axis(choice=[0.0, 0.1]),
            "give its axis `when: {objective.name: autoregressive}` (in stratum objective=masked_diffusion)",
        ),
        (("fixed", "model.width"), 64, "model.size = 400k and model.width are both set"),
        (("axes", "model.width"), axis(choice=[64, 96]), "model.size = 400k and model.width are both set"),
        (
            ("axes", "optimizer.learning_rate", "when"),
            {"objective.nam": "autoregressive"},
            "did you mean objective.name?",
        ),
        (("axes", "optimizer.learning_rate", "when"), {"optimizer.learning_rate": 1}, "wait for each other"),
        (("axes", "seed"), axis(choice=[1, 2]), "axes.seed: seeds are no axis: set search.repeats"),
        (("axes", "data.seed"), axis(choice=[1, 2]), "set search.repeats"),
        (("axes", "data.corpus"), {"choice": ["a", "b"], "role": "scientific"}, "a study has one corpus"),
        (("axes", "data.unique_tokens"), axis(choice=[1, 2]), "give it the role scientific"),
        (("axes", "evaluation.ratio"), axis(choice=[1.2, 1.5]), "scored alike"),
        (("axes", "execution.threads"), axis(choice=[1, 2]), "changes no result"),
        # without effect
        (("fixed", "data.seed"), 1, "fixed.data.seed: data has its own section: write data: {seed: ...}"),
        (("fixed", "stopping.patience"), 1, "stopping has its own section"),
        (("fixed", "optimizer.learning_rate"), 1e-3, "axes.optimizer.learning_rate applies everywhere"),
        (("axes", "recipe"), {"choice": ["a", "b"], "role": "scientific"}, "axes.recipe: a label sets nothing"),
        (("axes", "recipe"), {"choice": ["a b"], "role": "scientific"}, "the values of a label are words"),
        (("fixed", "schedule.decay_fraction"), 0.3, "fixed.schedule.decay_fraction is for schedule.name: wsd"),
        (
            ("axes", "schedule.final_fraction"),
            axis(uniform=[0, 0.5]),
            "axes.schedule.final_fraction is for schedule.name",
        ),
        (("stopping",), {"rule": "none", "patience": 4}, "stopping.patience is for stopping.rule: overfit"),
        (("axes", "optimizer.learning_rate"), GONE, "search.trials: no stratum has an axis to sample"),
        (("axes", "optimizer.learning_rate"), axis(choice=[1e-3, 1e-2]), "has 2 configurations only"),
    ],
)
def test_each_mistake_is_named_with_its_rule(path: tuple[str, ...], value: Any, says: str) -> None:
    message = message_of(changed(*path, to=value))
    assert says in message
    assert message.startswith("study example")


def test_settings_only_a_bound_reads_have_no_effect_without_one() -> None:
    document = changed("axes", "objective.name", "choice", to=["autoregressive"])
    document["fixed"]["evaluation.masks_per_window"] = 4
    assert "fixed.evaluation.masks_per_window is for objectives scored by a bound" in message_of(document)
    document["axes"]["objective.name"]["choice"].append("masked_diffusion")
    study_of(document, "study example")


def test_widths_and_heads_that_do_not_fit_are_found_as_a_pair() -> None:
    document = changed("fixed", "model.size", to=GONE)
    document["fixed"]["model.num_layers"] = 2
    document["axes"]["model.width"] = axis(choice=[64, 96])
    document["axes"]["model.num_heads"] = axis(choice=[2, 4, 5])
    document["axes"]["optimizer.learning_rate"] = GOOD["axes"]["optimizer.learning_rate"]
    assert "5" in message_of(document)
    document["axes"]["model.num_heads"] = axis(choice=[2, 3, 4])
    message = message_of(document)
    assert "64" in message
    assert "3" in message


def test_every_mistake_is_listed_at_once() -> None:
    document = changed("fixed", "optimizer.lerning_rate", to=1)
    document["fixed"]["schedule.epochs"] = -1
    document["axes"]["regularization.dropout"] = axis(choice=[2.0])
    lines = message_of(document).splitlines()
    assert lines[0] == "study example has 3 mistakes:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  - fixed.schedule.epochs",
        "  - fixed.optimizer.lerning_rate",
        "  - axes.regularization.dropout",
    ]


def test_condition_that_leaves_the_fixed_value_somewhere_is_no_mistake() -> None:
    document = changed("fixed", "optimizer.learning_rate", to=1e-3)
    document["axes"]["optimizer.learning_rate"]["when"] = {"objective.name": "autoregressive"}
    study = study_of(document, "study example")
    _, diffusion = study.strata()
    assert study.trial_config(diffusion, {}).optimizer.learning_rate == 1e-3


def test_long_values_and_many_mistakes_stay_readable() -> None:
    document = changed("name", to="x" * 10_000)
    assert len(message_of(document)) < 400
    document = copy.deepcopy(GOOD)
    document["fixed"] |= {f"nothing.{i}": 1 for i in range(500)}
    assert "and 480 more" in message_of(document)
