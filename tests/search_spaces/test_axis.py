"""An axis says exactly one thing, and says it soundly."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from crossover.search_spaces import Axis, Choice, Grid, Integer, LogUniform, Uniform


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ({"choice": [0.0, 0.1]}, Choice((0.0, 0.1))),
        ({"grid": ["a", None, True]}, Grid(("a", None, True))),
        ({"uniform": [0, 1]}, Uniform(0.0, 1.0)),
        ({"log_uniform": [1e-4, 1e-2]}, LogUniform(1e-4, 1e-2)),
        ({"integer": [2, 8]}, Integer(2, 8)),
    ],
)
def test_each_form_gives_its_domain_and_is_written_back_as_it_was(written: dict[str, Any], domain: object) -> None:
    axis = Axis(**written, role="nuisance", when={"recipe": ["a", "b"], "x": 1})
    assert axis.domain == domain
    assert type(axis.domain) is type(domain)
    assert axis.model_dump(mode="json") == {**written, "role": "nuisance", "when": {"recipe": ["a", "b"], "x": 1}}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "exactly one of"),
        ({"choice": [1], "grid": [2]}, "got choice and grid"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": [[1]]}, "a string, a number, true, false or null"),
        ({"choice": [math.nan]}, "must be finite"),
        ({"choice": [0.1, 0.2, 0.1]}, "0.1 twice"),
        ({"grid": ["1", 1]}, "1 twice"),
        ({"choice": [1, 2, 1.0]}, "1.0 twice"),
        ({"choice": 3}, "must be a list (got 3)"),
        ({"choice": list(range(1_001))}, "at most 1000 items"),
        ({"uniform": [1, 0]}, "low must be below high"),
        ({"uniform": [1, 1]}, "set it in fixed"),
        ({"uniform": [0, math.inf]}, "finite"),
        ({"uniform": [0, 1, 2]}, "at most 2 items"),
        ({"uniform": ["0", 1]}, "valid number"),
        ({"uniform": [True, 2]}, "valid number"),
        ({"log_uniform": [0, 1]}, "low above 0"),
        ({"integer": [1, 2.5]}, "valid integer"),
        ({"integer": [5, 2]}, "low must be below high"),
        ({"choice": [1], "when": {"x": {}}}, "a string, a number"),
        ({"choice": [1], "when": []}, "valid dictionary"),
        ({"choice": [1], "role": "both"}, "'scientific' or 'nuisance'"),
        ({"choise": [1]}, "Extra inputs"),
    ],
)
def test_wrong_axis_is_refused_with_the_rule(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Axis.model_validate({"role": "nuisance", **wrong})
    assert any(says in item["msg"] for item in caught.value.errors()), caught.value.errors()


def test_role_is_never_assumed() -> None:
    with pytest.raises(ValidationError, match="role"):
        Axis.model_validate({"choice": [1]})


def test_condition_tells_true_from_one_and_fails_on_what_has_no_value() -> None:
    axis = Axis(choice=[1], role="nuisance", when={"flag": [True, 2]})
    assert axis.holds({"flag": True})
    assert axis.holds({"flag": 2})
    assert axis.holds({"flag": 2.0})
    assert not axis.holds({"flag": 1})
    assert not axis.holds({})


def test_corners_are_all_values_of_a_list_and_both_ends_of_a_range() -> None:
    assert Choice((3, 1, 2)).corners == (3, 1, 2)
    assert LogUniform(0.1, 1.0).corners == (0.1, 1.0)
    assert Integer(1, 9).corners == (1, 9)
    assert Integer(1, 3).values == (1, 2, 3)
    assert Integer(0, 10**9).values is None
    assert Uniform(0.0, 1.0).values is None
