"""What a manifest carries: an entrypoint that a shell leaves alone, images by digest, and no secret."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import typer
import yaml

from crossover.platform.cluster.lint.finding import Document, Finding, items, mapping, text
from crossover.platform.cluster.lint.pods import cluster_of, pods_of
from crossover.platform.cluster.rayjob import PLACEHOLDER_IMAGE, is_pinned
from crossover.search_spaces import near

__all__ = ["check_entrypoint", "check_images", "check_secrets"]

_METACHARACTERS = re.compile(r"[;&|<>$`\\\n\r(){}*?\[\]~#!]")
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # typer gives its own usage error no public name
_SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:auth_?token|token|password|passwd|secret|credentials?|api_?key|access_?key)(?:_|$)"
)
_NOT_SECRET = re.compile(r"(?i)_(?:file|path|name|url|mode|expiration)$")
_SECRETS = (
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"\b(?:ghp|gho|ghs|ghu|github_pat)_[A-Za-z0-9_]{20,}"), "a GitHub token"),
    (re.compile(r"\bhf_[A-Za-z0-9]{30,}"), "a Hugging Face token"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."), "a JSON web token"),
    (re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"), "a Google API key"),
    (re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@]+@"), "a password in an address"),
)


def check_entrypoint(document: Document) -> Iterator[Finding]:
    """One simple command that its program can parse: what follows `&&` would run in the submitter's pod."""
    given = mapping(document.value.get("spec")).get("entrypoint")
    if document.kind != "RayJob" or not isinstance(given, str):
        return
    if (problem := _entrypoint_problem(given)) is not None:
        yield document.error("entrypoint", "spec.entrypoint", problem)


def _entrypoint_problem(given: str) -> str | None:
    if (found := _METACHARACTERS.search(given)) is not None:
        return f"{found[0]!r} is for a shell, and the one that reads it is not on the head: give one simple command"
    try:
        words = shlex.split(given)
    except ValueError as error:
        return f"{given[:80]!r}: {error}"
    if not words:
        return "it is empty"
    if "=" in words[0]:
        return f"{words[0]!r} sets a variable in the submitter's pod: set it in env of the head's container"
    if words[0] == "crossover":
        return _command_problem(words[1:])
    if words[:2] in (["python", "-m"], ["python3", "-m"]) and len(words) > 2:
        package = words[2].partition(".")[0]
        return None if find_spec(package) else f"there is no module {words[2]!r}"
    return None


def _command_problem(words: list[str]) -> str | None:
    """What the command line itself says of the words, without running anything."""
    from typer.main import get_command

    from crossover.platform.cli import app

    command: Any = get_command(app)
    rest = list(words)
    while commands := getattr(command, "commands", None):
        name = rest.pop(0) if rest else ""
        if name not in commands:
            return f"crossover has no command {name!r}{near(name, commands)}; it has {', '.join(commands)}"
        command = commands[name]
    if "--help" in rest:
        return "it prints help and ends: remove --help"
    try:
        command.make_context(command.name, rest)
    except _USAGE_ERROR as error:
        return f"crossover does not understand it: {str(error) or error.__class__.__name__}"
    return None


def check_images(document: Document) -> Iterator[Finding]:
    """Every image by digest, and one image for all of Ray: head, workers and submitter must have the same versions."""
    of_ray: dict[str, str] = {}
    for pod in pods_of(document):
        for path, container in pod.containers():
            image = text(container.get("image"))
            if image == PLACEHOLDER_IMAGE:
                yield document.warning(
                    "image", f"{path}.image", "a placeholder: render with --image NAME@sha256:DIGEST"
                )
            elif not is_pinned(image):
                yield document.error("image", f"{path}.image", f"{image!r} is not pinned by digest, NAME@sha256:DIGEST")
            if pod.role != "other" and container.get("name") == _main_name(pod.spec):
                of_ray[f"{path}.image"] = image
    if len(set(of_ray.values())) > 1:
        first, *others = of_ray
        wrong = next(path for path in others if of_ray[path] != of_ray[first])
        yield document.error("image", wrong, f"another image than {first}: head, workers and submitter need one")
    _, cluster = cluster_of(document)
    own = text(mapping(cluster.get("autoscalerOptions")).get("image"))
    if own and own not in of_ray.values():
        yield document.error("image", "autoscalerOptions.image", f"{own!r} is another image than the head's: remove it")


def _main_name(spec: dict[str, Any]) -> Any:
    """The first container is Ray's."""
    return mapping(next(iter(items(spec.get("containers"))), None)).get("name")


def check_secrets(document: Document) -> Iterator[Finding]:
    """No secret in the manifest: it is readable by all who may read the job, and often in git."""
    if document.kind == "Secret" and (document.value.get("data") or document.value.get("stringData")):
        yield document.error("secret", "", "a Secret with its content: make it by kubectl or an operator for secrets")
    for path, value in _texts(document.value, ""):
        for pattern, what in _SECRETS:
            if pattern.search(value):
                yield document.error("secret", path, f"{what}: refer to a Secret by secretKeyRef")
    for path, name in _literals(document.value, ""):
        yield document.error("secret", path, f"{name} has its value in the manifest: refer to a Secret by secretKeyRef")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    for key, inner in _inside(value, path):
        yield from _texts(inner, key)


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{path}.{key}" if path else str(key), inner) for key, inner in value.items())
    elif isinstance(value, list):
        yield from ((f"{path}[{number}]", inner) for number, inner in enumerate(value))


def _literals(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Variables, parameters and runtime environments that name a secret and hold it."""
    if isinstance(value, dict):
        if _is_secret(value.get("name")) and value.get("value"):
            yield path, text(value["name"])
        for key in ("rayStartParams", "env_vars"):
            for name, given in mapping(value.get(key)).items():
                if _is_secret(str(name).replace("-", "_")) and given:
                    yield f"{path}.{key}.{name}", str(name)
        if (given := value.get("redisPassword")) and mapping(given).get("value"):
            yield f"{path}.redisPassword", "redisPassword"
        if text(value.get("runtimeEnvYAML")):
            yield from _in_runtime_env(value["runtimeEnvYAML"], f"{path}.runtimeEnvYAML")
    for key, inner in _inside(value, path):
        yield from _literals(inner, key)


def _in_runtime_env(given: str, path: str) -> Iterator[tuple[str, str]]:
    try:
        inner = yaml.safe_load(given)
    except (yaml.YAMLError, RecursionError):  # said by the operator's rules
        return
    yield from _literals(inner if isinstance(inner, dict) else {}, path)


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)
