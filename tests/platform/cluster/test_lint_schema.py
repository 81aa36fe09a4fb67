"""The schema of the CRDs, strict: spoilt manifests against a second reading of the same schema."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossover.platform.cluster.lint import Document, lint
from crossover.platform.cluster.lint.schema import Crd, check_schema, read_crds
from crossover.trainers.errors import CrossoverError

NUM_MUTANTS = 100  # of each manifest
PROFILES = ("dev-cpu", "single-node-gpu", "multi-node-gpu", "spot-sweep")

JobOf = Callable[..., dict[str, Any]]
Place = tuple[Any, Any]


def is_forbidden(schema: dict[str, Any], value: Any) -> bool:
    """Whether a structural schema, read strictly, forbids a value; top-level metadata is left open."""
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            return True
        return isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value)
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    if value is None:
        return not schema.get("nullable")
    if not isinstance(value, types[schema["type"]]) or (schema["type"] != "boolean" and isinstance(value, bool)):
        return True
    if "enum" in schema and value not in schema["enum"]:
        return True
    if isinstance(value, str):
        too_long = len(value) > schema.get("maxLength", 10**9) or len(value) < schema.get("minLength", 0)
        return too_long or bool("pattern" in schema and not re.search(schema["pattern"], value))
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return True
        return any(is_forbidden(schema["items"], item) for item in value) or has_twins(schema, value)
    if isinstance(value, dict):
        return is_forbidden_object(schema, value)
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        return True
    return not schema.get("minimum", value) <= value <= schema.get("maximum", value)


def is_forbidden_object(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties")
    if any(name not in value and "default" not in known[name] for name in schema.get("required", [])):
        return True
    for name, inner in value.items():
        if name in known:
            if is_forbidden(known[name], inner):
                return True
        elif not isinstance(extra, dict) or is_forbidden(extra, inner):
            return True
    return False


def has_twins(schema: dict[str, Any], value: list[Any]) -> bool:
    if schema.get("x-kubernetes-list-type") != "map":
        return False
    names = schema["x-kubernetes-list-map-keys"]
    keys = [tuple(item.get(name) for name in names) for item in value]
    return len(keys) != len(set(keys))


def places(value: Any) -> Iterator[Place]:
    """Every (container, key) in a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


def misspell(draw: random.Random, holder: Any, key: Any) -> None:
    if not isinstance(holder, dict):
        holder[key] = {"nmae": holder[key]}
        return
    at = draw.randrange(len(key))
    holder[draw.choice([key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key + "s", key.upper()])] = holder.pop(key)


def change_type(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = draw.choice([holder[key], 1, "1", 1.5, True, None, [], {}, ["x"], {"x": 1}, -1, 2**40, "@"])


def remove(draw: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def double(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[f"{key}2"] = copy.deepcopy(holder[key])


def wrap(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = [holder[key]]


OPERATIONS = (misspell, misspell, change_type, change_type, remove, double, wrap)


def mutant(manifest: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    spoilt = copy.deepcopy(manifest)
    holder, key = draw.choice(list(places(spoilt["spec"])))
    draw.choice(OPERATIONS)(draw, holder, key)
    return spoilt


@pytest.mark.parametrize("profile", PROFILES)
def test_every_mutant_that_the_schema_forbids_is_caught_and_no_other(
    profile: str, job_of: JobOf, crds: list[Crd]
) -> None:
    (crd,) = [one for one in crds if one.kind == "RayJob"]
    spec, job, draw = crd.schema["properties"]["spec"], job_of(profile), random.Random(profile)
    num_forbidden = 0
    for _ in range(NUM_MUTANTS):
        spoilt = mutant(job, draw)
        found = list(check_schema(Document(spoilt), crd))
        assert bool(found) == is_forbidden(spec, spoilt["spec"]), (found, spoilt)
        num_forbidden += bool(found)
    assert num_forbidden > NUM_MUTANTS // 2


@pytest.mark.parametrize("profile", PROFILES)
def test_every_check_reads_any_mutant(profile: str, job_of: JobOf, crds: list[Crd]) -> None:
    job, draw = job_of(profile), random.Random(0)
    for _ in range(10):
        spoilt = job
        for _ in range(3):
            spoilt = mutant(spoilt, draw)
        assert json.dumps([str(one) for one in lint([Document(spoilt)], crds).findings])


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("entrypont",), "x", "did you mean entrypoint"),
        (("backoffLimit",), "2", "'2' is no integer"),
        (("backoffLimit",), 2.0, "2.0 is no integer"),
        (("rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "0 is no string: quote it"),
        (("rayClusterSpec", "autoscalerOptions"), {"version": "v3"}, "is not one of"),
        (("rayClusterSpec", "headGroupSpec"), {}, "required and not set: template"),
        (
            ("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "volumeMount"),
            [],
            "volumeMounts",
        ),
        (("suspend",), None, "None is no boolean"),
    ],
)
def test_messages_say_where_and_what(
    path: tuple[Any, ...], value: Any, says: str, job_of: JobOf, crds: list[Crd]
) -> None:
    job = job_of()
    holder = job["spec"]
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    found = [one for one in lint([Document(job)], crds).findings if one.rule == "schema"]
    assert any(says in one.message for one in found), found
    assert all(one.where.startswith("RayJob/quickstart spec") for one in found)


def test_metadata_is_strict_too(job_of: JobOf, crds: list[Crd]) -> None:
    job = job_of()
    job["metadata"]["label"] = {}
    (found,) = lint([Document(job)], crds).findings
    assert "did you mean labels" in found.message


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ({"deletionRules": [{"policy": "DeleteSelf", "condition": {}}]}, "requires either the JobStatus"),
        (
            {
                "deletionRules": [
                    {"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}}
                ]
            },
            "cannot be used together",
        ),
        ({"onSuccess": {"policy": "DeleteSelf"}}, "requires either BOTH"),
    ],
)
def test_rules_in_cel_are_evaluated(strategy: dict[str, Any], says: str, job_of: JobOf, crds: list[Crd]) -> None:
    pytest.importorskip("celpy", reason="needs cel-python, of the extra k8s")
    job = job_of()
    job["spec"]["deletionStrategy"] = strategy
    found = [one for one in lint([Document(job)], crds).findings if one.rule == "cel"]
    assert any(says in one.message for one in found), found


def test_managed_by_is_checked_by_its_rule_alone(job_of: JobOf, crds: list[Crd]) -> None:
    pytest.importorskip("celpy", reason="needs cel-python, of the extra k8s")
    job = job_of()
    job["spec"]["managedBy"] = "somebody"
    (found,) = lint([Document(job)], crds).findings
    assert (found.rule, "managedBy" in found.message) == ("cel", True)


def test_another_version_of_the_api_is_named(job_of: JobOf, crds: list[Crd]) -> None:
    found = lint([Document({**job_of(), "apiVersion": "ray.io/v1alpha1"})], crds).findings
    assert any("ray.io/v1alpha1 RayJob is none of --crds" in one.message for one in found)


def test_folder_without_definitions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrossoverError, match="no CustomResourceDefinition"):
        read_crds(tmp_path)
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(CrossoverError, match="cannot be read"):
        read_crds(tmp_path)


def test_without_crds_the_rest_is_checked_and_a_notice_says_how_to_get_them(job_of: JobOf) -> None:
    job = job_of()
    job["spec"]["entrypoint"] = "a && b"
    linted = lint([Document(job)])
    assert [one.rule for one in linted.findings] == ["entrypoint"]
    assert any("helm-chart/kuberay-operator/crds" in notice for notice in linted.notices)
