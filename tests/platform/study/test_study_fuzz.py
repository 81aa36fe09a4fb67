"""Whatever stands in a file, `read_study` gives a study or a `StudyError`: never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossover.platform.study import Study, StudyError, read_study, study_of
from crossover.platform.study.document import parse_yaml
from crossover.platform.study.settings import LEAVES

pytestmark = pytest.mark.integration

GOOD = parse_yaml(resources.files("crossover.search_spaces.studies").joinpath("quickstart.yaml").read_bytes(), "good")
WORDS = st.sampled_from(
    [*Study.model_fields, *LEAVES, "recipe", "choice", "grid", "when", "role", "integer", "uniform", "log_uniform"]
)
VALUES = st.sampled_from(["shared", "tuned", "autoregressive", "adamw", "scientific", "nuisance", "24k", "1e3", "400k"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20) | WORDS | VALUES
)
KEYS = WORDS | st.text(max_size=12)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


PLACES = [path for path in _places(GOOD) if path]


def _mutated(document: Any, path: tuple[Any, ...], how: str, key: str, value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(document, dict | list) or (isinstance(document, dict) and part not in document):
            return
        if isinstance(document, list) and not (isinstance(part, int) and part < len(document)):
            return
        document = document[part]
    last = path[-1]
    if isinstance(document, dict):
        if how == "replace":
            document[last] = value
        elif how == "remove":
            document.pop(last, None)
        elif how == "add":
            document[key] = value
        elif last in document:
            document[key] = document.pop(last)
    elif isinstance(document, list) and how == "add":
        document.append(value)
    elif isinstance(document, list) and isinstance(last, int) and last < len(document):
        document[last] = value


def read_or_refuse(document: Any) -> None:
    try:
        study = study_of(document, "study x")
    except StudyError as error:
        assert str(error).startswith("study x")
        return
    for stratum in study.strata():
        study.num_configurations(stratum)


@QUICK
@given(ANYTHING)
def test_random_documents(document: Any) -> None:
    read_or_refuse(document)


@QUICK
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(Study.model_fields, ANYTHING)))
def test_random_documents_with_the_fields_of_a_study(document: Any) -> None:
    read_or_refuse({**GOOD, **document})


@QUICK
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES), st.sampled_from(["replace", "remove", "add", "rename"]), KEYS, ANYTHING | VALUES
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutated_studies(changes: list[tuple[tuple[Any, ...], str, str, Any]]) -> None:
    document = copy.deepcopy(GOOD)
    for path, how, key, value in changes:
        _mutated(document, path, how, key, value)
    read_or_refuse(document)


AXES = st.dictionaries(
    st.sampled_from([*LEAVES, "recipe", "other"]),
    st.fixed_dictionaries(
        {"role": st.sampled_from(["scientific", "nuisance"])},
        optional={
            "choice": st.lists(SCALARS, max_size=3),
            "grid": st.lists(VALUES | st.integers(0, 3), max_size=3),
            "uniform": st.lists(st.floats(), min_size=2, max_size=2),
            "integer": st.lists(st.integers(0, 9), min_size=2, max_size=2),
            "when": st.dictionaries(st.sampled_from([*LEAVES, "recipe"]), VALUES | st.integers(0, 9), max_size=2),
        },
    ),
    max_size=4,
)


@QUICK
@given(AXES)
def test_random_axes(axes: dict[str, Any]) -> None:
    read_or_refuse({**GOOD, "axes": axes})


@QUICK
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes_in_a_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    with pytest.raises(StudyError):
        read_study(file)


@QUICK
@given(st.integers(0, 2_000), st.binary(max_size=8), st.integers(0, 30))
def test_damaged_bytes_of_a_good_file(tmp_path: Path, at: int, inserted: bytes, num_lost: int) -> None:
    good = resources.files("crossover.search_spaces.studies").joinpath("quickstart.yaml").read_bytes()
    file = tmp_path / "study.yaml"
    file.write_bytes(good[:at] + inserted + good[at + num_lost :])
    try:
        read_study(file)
    except StudyError as error:
        assert str(file) in str(error) or "mistakes" in str(error)


@QUICK
@given(st.text(max_size=40))
def test_random_names_and_paths(source: str) -> None:
    with pytest.raises(StudyError):
        read_study(source)


@QUICK
@given(st.lists(st.text(max_size=20) | st.builds("{}={}".format, KEYS, st.text(max_size=12)), max_size=3))
def test_random_overrides(overrides: list[str]) -> None:
    try:
        read_study("quickstart", overrides)
    except StudyError as error:
        assert str(error).startswith("study quickstart")
