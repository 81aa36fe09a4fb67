"""The committed JSON Schema is that of the models, takes good studies and refuses bad ones."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from crossover.platform.study import builtin_studies, study_schema_text
from crossover.platform.study.document import parse_yaml
from crossover.platform.study.schema import schema_path, study_schema
from crossover.platform.study.settings import LEAVES

STUDIES = resources.files("crossover.search_spaces.studies")
VALIDATOR = jsonschema.Draft202012Validator(study_schema())


def document(name: str) -> Any:
    return parse_yaml(STUDIES.joinpath(f"{name}.yaml").read_bytes(), name)


def test_committed_schema_is_the_generated_one() -> None:
    assert schema_path().read_text(encoding="utf-8") == study_schema_text(), (
        "run python -m crossover.platform.study.schema"
    )


def test_schema_is_a_schema_with_a_description_for_every_setting() -> None:
    schema = json.loads(study_schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    fixed = schema["properties"]["fixed"]["properties"]
    assert set(fixed) == {path for path in LEAVES if not path.startswith(("data.", "stopping."))}
    for name, definition in schema["$defs"].items():
        for field, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{field} has no description"
    assert all(field.get("description") for field in fixed.values())
    assert all(field.get("description") or "$ref" in field for field in schema["properties"].values())


@pytest.mark.parametrize("name", builtin_studies())
def test_builtin_studies_fit_the_schema_and_name_it(name: str) -> None:
    VALIDATOR.validate(document(name))
    first = STUDIES.joinpath(f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["data", "unique_tokens"], "24k"),
        (["data", "unique_tokens"], "24_576"),
        (["budget"], {"flops": "40T"}),
        (["axes", "data.unique_tokens"], {"grid": ["8k", 16_384], "role": "scientific"}),
        (["fixed", "stopping"], None),
    ],
)
def test_schema_takes_what_the_loader_takes(path: list[str], value: Any) -> None:
    changed = document("quickstart")
    if path == ["fixed", "stopping"]:
        changed["fixed"]["evaluation.ratio"] = 1.5
    else:
        _set(changed, path, value)
    VALIDATOR.validate(changed)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["nam"], "x"),
        (["name"], "a/b"),
        (["name"], 3),
        (["data", "unique_tokens"], "24q"),
        (["data", "unique_tokens"], 0),
        (["budget"], {"flops": -1}),
        (["search", "trials"], 0),
        (["search", "sampler"], "anneal"),
        (["fixed", "optimizer.lerning_rate"], 1e-3),
        (["fixed", "optimizer.learning_rate"], "fast"),
        (["fixed", "optimizer.learning_rate"], 3),
        (["fixed", "data.seed"], 3),
        (["axes", "optimizer.lerning_rate"], {"choice": [1], "role": "nuisance"}),
        (["axes", "recipe"], {"choice": [1], "grid": [1], "role": "nuisance"}),
        (["axes", "recipe"], {"role": "scientific"}),
        (["axes", "recipe"], {"choice": [], "role": "scientific"}),
        (["axes", "recipe"], {"choice": [1]}),
        (["axes", "recipe"], {"uniform": [1], "role": "nuisance"}),
    ],
)
def test_schema_refuses_what_the_loader_refuses(path: list[str], value: Any) -> None:
    changed = copy.deepcopy(document("quickstart"))
    _set(changed, path, value)
    assert not VALIDATOR.is_valid(changed)


def _set(place: Any, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
