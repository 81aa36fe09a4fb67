"""The rules in CEL that a CRD carries, evaluated as the API server does when an object is made.

Rules on `oldSelf` are for changes of an object that is there, and are left to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from crossover.platform.cluster.lint.finding import Document, Finding, mapping
from crossover.platform.cluster.lint.schema import Crd, path_text

__all__ = ["cel_is_there", "check_rules"]


def cel_is_there() -> bool:
    """Whether CEL can be evaluated here."""
    return find_spec("celpy") is not None


def check_rules(document: Document, crd: Crd) -> Iterator[Finding]:
    """Every rule that a document breaks."""
    for path, rule, value in _rules(crd.schema, document.value, ()):
        if (problem := _broken(rule, value)) is not None:
            yield document.error("cel", path_text(path), problem)


def _rules(
    schema: dict[str, Any], value: Any, path: Sequence[str | int]
) -> Iterator[tuple[Sequence[str | int], dict[str, Any], Any]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"]:
            yield path, rule, value
    if isinstance(value, dict):
        for name, inner in value.items():
            known = mapping(schema.get("properties")).get(name, schema.get("additionalProperties"))
            if isinstance(known, dict):
                yield from _rules(known, inner, [*path, str(name)])
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from _rules(schema["items"], item, [*path, number])


def _broken(rule: dict[str, Any], value: Any) -> str | None:
    import celpy
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    environment = celpy.Environment()
    program = environment.program(environment.compile(rule["rule"]))
    message = rule.get("message", rule["rule"])
    try:
        holds = program.evaluate({"self": json_to_cel(value)})
    except (CELEvalError, TypeError, ValueError) as error:
        return f"the rule {message!r} cannot be evaluated: {str(error)[:120]}"
    return None if holds else " ".join(str(message).split())
