"""Bounds on what a configuration may cost: read, counted, kept before anything starts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from crossover.platform.search.study_searcher import study_searcher
from crossover.platform.study import Study, StudyError, study_of
from crossover.platform.study.constraints import Constraints, Cost, cost_of
from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer

pytestmark = pytest.mark.integration

DOCUMENT: dict[str, Any] = {
    "name": "bounded",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8192},
    "fixed": {"schedule.epochs": 10},
    "axes": {
        "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
        "model.size": {"choice": ["100k", "400k", "1M", "4M"], "role": "nuisance"},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
    },
    "search": {"trials": 4, "scheduler": "none"},
}


def study(**search: Any) -> Study:
    document = copy.deepcopy(DOCUMENT)
    document["search"] |= search
    return study_of(document, "study bounded")


def config(**changes: Any) -> TrialConfig:
    settings = {
        "data.corpus": "python-stdlib",
        "data.unique_tokens": 10_000,
        "data.sequence_length": 64,
        "objective.name": "autoregressive",
        "model.num_layers": 2,
        "model.width": 128,
        "schedule.epochs": 3,
        "schedule.batch_size": 4,
        "execution.precision": "float32",
    }
    return config_from_dotted(settings | {path.replace("__", "."): value for path, value in changes.items()})


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("<= 5M", 5_000_000, True),
        ("<=5M", 5_000_001, False),
        (">= 1.5k", 1_500, True),
        ("<= 1e13", 1e13, True),
        ("<= 24_576", 24_577, False),
        ("<= 8GiB", 8 * 2**30, True),
        ("<= 8GB", 8 * 2**30, False),
        (">= 1M, <= 5M", 3e6, True),
        (">= 1M and <= 5M", 6e6, False),
    ],
)
def test_bounds_are_read_as_people_write_them(text: str, value: float, holds: bool) -> None:
    broken = list(Constraints(memory_bytes=text).broken(Cost(0, 0.0, int(value))))
    assert (not broken) == holds


@pytest.mark.parametrize("text", ["5M", "< 5M", "<= lots", "<= 5X", "", "<= 5M; rm", ">= 5M, <= 1M", 5, ["<= 5M"]])
def test_what_is_no_bound_is_an_error_that_shows_one(text: Any) -> None:
    with pytest.raises(ValidationError, match=r"no bound: write <= or >=|holds for no number"):
        Constraints(num_params=text)


def test_parameters_and_flops_are_those_of_the_run() -> None:
    tokens = 30_000  # 3 epochs of 157 sequences in batches of 4: 118 steps
    cost = cost_of(config())
    shape = shape_of(config().model, BYTES.num_input_tokens, BYTES.num_output_tokens)
    matrices = sum(p.numel() for n, p in Transformer(shape, config().regularization).named_parameters() if p.ndim == 2)
    assert cost.num_params == matrices - 128 * BYTES.num_input_tokens
    attention = 3 * 4 * 2 * 128 * (64 + 1) / 2  # 3 passes, 4 FLOPs, layers, width, keys
    assert cost.train_flops == pytest.approx(tokens * (6 * cost.num_params + attention), rel=0.01)


def kept_bytes(config: TrialConfig) -> int:
    """Bytes that torch keeps for the backward pass, counted tensor by tensor."""
    shape = shape_of(config.model, BYTES.num_input_tokens, BYTES.num_output_tokens)
    model = Transformer(shape, config.regularization)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens_BL = torch.zeros(config.schedule.batch_size, config.data.sequence_length, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden(tokens_BL, causal=True)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__num_layers": 8},
        {"model__width": 256, "model__num_kv_heads": 2},
        {"regularization__dropout": 0.1, "regularization__mlp_dropout": 0.1},
    ],
)
def test_memory_grows_with_the_batch_as_torch_keeps_tensors(changes: dict[str, Any]) -> None:
    few, many = config(**changes), config(schedule__batch_size=12, **changes)
    estimated = cost_of(many).memory_bytes - cost_of(few).memory_bytes
    logits = 8 * 64 * (3 * 4) * BYTES.num_output_tokens
    assert estimated - logits == pytest.approx(kept_bytes(many) - kept_bytes(few), rel=0.15)


def test_memory_of_the_state_counts_weights_gradients_moments_and_averages() -> None:
    tiny = {"schedule__batch_size": 1, "data__sequence_length": 2}
    everything = sum(
        parameter.numel()
        for parameter in Transformer(
            shape_of(config().model, BYTES.num_input_tokens, BYTES.num_output_tokens), config().regularization
        ).parameters()
    )
    with_average = cost_of(config(**tiny)).memory_bytes
    without = cost_of(config(averaging__horizon_fraction=0.0, **tiny)).memory_bytes
    assert with_average - without == 4 * everything
    assert with_average == pytest.approx(20 * everything, rel=0.05)


def test_smaller_passes_and_recomputation_need_less() -> None:
    costs = [
        cost_of(config(schedule__batch_size=64, model__num_layers=12, **changes)).memory_bytes
        for changes in (
            {},
            {"execution__activation_checkpointing": "selective"},
            {"execution__activation_checkpointing": "full"},
            {"execution__activation_checkpointing": "full", "execution__micro_batch_size": 8},
        )
    ]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_only_configurations_that_keep_the_bounds_are_drawn(sampler: str) -> None:
    bounded = study(sampler=sampler, trials=12, constraints={"num_params": ">= 200k, <= 2M"})
    for stratum in bounded.strata():
        searcher = study_searcher(bounded, stratum)
        sizes = set()
        for number in range(12):
            settings = searcher.suggest(number)
            assert settings is not None
            searcher.observe(number, settings)
            searcher.tell(number, 1.0)
            sizes.add(settings["model.size"])
        assert sizes == {"400k", "1M"}


def test_grids_leave_out_what_breaks_the_bounds() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["axes"]["model.size"] = {"grid": ["100k", "400k", "1M", "4M"], "role": "nuisance"}
    del document["axes"]["optimizer.learning_rate"]
    document["search"] = {"constraints": {"num_params": "<= 500k"}}
    bounded = study_of(document, "study bounded")
    for stratum in bounded.strata():
        assert bounded.num_configurations(stratum) == 2
        searcher = study_searcher(bounded, stratum)
        assert [(searcher.suggest(number) or {}).get("model.size") for number in range(3)] == ["100k", "400k", None]


@pytest.mark.parametrize(
    ("constraints", "says"),
    [
        ({"num_params": "<= 1k"}, r"no configuration of stratum .*num_params <= 1k, and it has 1\.\d+e\+05 to"),
        ({"train_flops": "<= 1e3"}, r"train_flops <= 1e3, and it has .*Widen the bounds"),
        ({"memory_bytes": "<= 1kB"}, r"memory_bytes <= 1kB"),
        ({"params": "<= 1k"}, r"search\.constraints\.params: no such field; did you mean num_params"),
        ({"num_params": "<= many"}, r"search\.constraints\.num_params: '<= many' is no bound"),
    ],
)
def test_stratum_with_nothing_left_is_an_error_before_anything_starts(constraints: Any, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        study(constraints=constraints)


def test_more_trials_than_the_bounds_leave_are_an_error() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["axes"]["optimizer.learning_rate"] = {"choice": [1e-4, 1e-3], "role": "nuisance"}
    document["search"] |= {"trials": 5, "constraints": {"num_params": "<= 500k"}}
    with pytest.raises(StudyError, match=r"search\.trials = 5, but search\.constraints leave 4 configurations"):
        study_of(document, "study bounded")


@pytest.mark.parametrize(
    ("search", "axes", "says"),
    [
        (
            {"sampler": "grid", "trials": None},
            {},
            r"values that are listed, and axes\.optimizer\.learning_",
        ),
        ({"sampler": "coordinate_descent"}, {}, r"axes\.model\.size has values without an order \(100k, 400k"),
        ({"sampler": "coordinate_descent", "scheduler": "cohort_halving"}, {}, r"set scheduler: none"),
        ({"sampler": "nsga2", "scheduler": "cohort_halving"}, {}, r"stops all but the good: set scheduler: none"),
        (
            {"sampler": "nsga2"},
            {"model.size": {"choice": ["400k"], "role": "nuisance"}},
            r"every configuration has",
        ),
        ({"start": {"optimizer.learning_rate": 1e-3}}, {}, r"search\.start is for sampler: coordinate_descent"),
        ({"factor": 3.0}, {}, r"search\.factor is for sampler: coordinate_descent"),
        ({"sampler": "random", "warm_start": "runs/x"}, {}, r"random does not learn"),
    ],
)
def test_sampler_that_cannot_search_the_space_is_an_error_with_its_remedy(
    search: dict[str, Any], axes: dict[str, Any], says: str
) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["search"] |= search
    document["axes"] |= axes
    with pytest.raises(StudyError, match=says):
        study_of(document, "study bounded")


@pytest.mark.parametrize("sampler", ["gp", "nsga2"])
def test_axis_that_depends_on_a_drawn_one_is_refused_by_samplers_that_need_common_axes(sampler: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["axes"]["regularization.dropout"] = {
        "choice": [0.0, 0.1],
        "role": "nuisance",
        "when": {"model.size": "1M"},
    }
    document["search"] |= {"sampler": sampler}
    with pytest.raises(StudyError, match=r"axes\.regularization\.dropout depends on the nuisance axis model\.size"):
        study_of(document, "study bounded")


def test_grid_needs_no_number_of_trials_and_visits_everything() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["axes"]["optimizer.learning_rate"] = {"choice": [1e-4, 1e-3], "role": "nuisance"}
    document["search"] = {"sampler": "grid"}
    visited = study_of(document, "study bounded")
    assert [visited.num_configurations(stratum) for stratum in visited.strata()] == [8, 8]
