"""YAML as studies write it: plain values only, and every other document refused with its line."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crossover.platform.study.document import parse_yaml, write_yaml
from crossover.platform.study.errors import StudyError
from crossover.platform.study.units import parse_count

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4e13", 4e13),
        ("1e-3", 1e-3),
        ("1E+2", 100.0),
        (".5", 0.5),
        ("24_576", 24_576),
        ("-7", -7),
        ("010", 10),
        ("-.inf", -math.inf),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("24k", "24k"),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("!!str 5", "5"),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "a document")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands twice"),
        ("{1: 2}", "the key 1 is no string: quote it"),
        ("? [a]\n: b", "no string"),
        ("a: &x [*x]", "an alias inside what it names"),
        ("a: *b", "undefined alias"),
        ("[" * 30, "nested deeper than 20"),
        ("[" * 100_000, "nested deeper than 20"),
        ("!!python/object/apply:os.system [echo]", "not allowed"),
        ("!!set {a}", "not allowed"),
        ("!!timestamp 2024-01-01", "not allowed"),
        ("!!map 1", "not allowed"),
        ("!!int x", "no integer"),
        ("!!float x", "no number"),
        ("!!bool x", "neither true nor false"),
        ("9" * 5_000, "too large for a whole number"),
        ("a: b: c", "line 1, column 5"),
        ("--- a\n--- b", "a second document begins here"),
        ("a: [1", "line 1"),
        ("\x00", "not allowed"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8"),
        (b"name: caf\xe9", "byte 9 is not UTF-8"),
        ("a" * 300_000, "more than the 262144"),
        ("\n".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9 if i else 1}]" for i in range(10)), "more than 20000 values"),
    ],
)
def test_other_documents_are_refused_with_their_place(text: str | bytes, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_yaml(text, "a document")
    assert says in str(caught.value)
    assert str(caught.value).startswith("a document: ")


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert parse_yaml(write_yaml(value), "a document") == value


@given(st.dictionaries(st.text(max_size=5), st.text(), max_size=4))
def test_text_that_is_written_is_text_for_yaml_1_1_readers_too(value: dict[str, str]) -> None:
    assert yaml.safe_load(write_yaml(value)) == value


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        parse_yaml(text, "a document")
    except StudyError as error:
        assert str(error).startswith("a document: ")


@pytest.mark.parametrize(
    ("written", "count"),
    [("24k", 24_000), ("1.5M", 1_500_000), ("2B", 2 * 10**9), ("24_576", 24_576), ("7", 7), ("40 T", 40 * 10**12)],
)
def test_counts_take_units(written: str, count: int) -> None:
    assert parse_count(written) == count
    assert parse_count(float(count)) == count


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("24q", "the unit 'q'"),
        ("24kB", "the unit 'kB'"),
        ("k", "no count"),
        ("-3k", "no count"),
        ("1.0005k", "no whole"),
        ("1.5", "no whole number"),
        ("", "no count"),
        ("٣k", "no count"),
        ("1" * 99, "no count"),
    ],
)
def test_wrong_counts_are_refused(written: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_count(written)
