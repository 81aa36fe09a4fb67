"""The image, without an engine to build it: what the Dockerfile says, and that its lock is the tested versions."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ROOT / "k8s" / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    (match[1], " ".join(match[2].split()))
    for match in re.finditer(r"^([A-Z]+)\s+((?:.*\\\n)*.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
]
LOCK = (IMAGE / "requirements.lock").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def arguments(instruction: str) -> list[str]:
    return [value for name, value in INSTRUCTIONS if name == instruction]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crossover_lock_writer", IMAGE / "lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_stage_starts_from_rays_image_by_digest() -> None:
    stages = arguments("FROM")
    assert len(stages) == 2
    assert all(stage.startswith("rayproject/ray:${RAY_VERSION}-py311-${VARIANT}@${BASE_DIGEST}") for stage in stages)
    assert f"RAY_VERSION={version('ray')}" in arguments("ARG")
    assert "BASE_DIGEST=sha256:" + "0" * 64 in arguments("ARG"), "no digest by default: the builder names one"
    assert any(argument.startswith("VARIANT=cu") for argument in arguments("ARG"))


def test_torch_is_the_tested_version() -> None:
    (pinned,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"TORCH_VERSION={pinned}" in arguments("ARG")


def test_image_runs_as_ray_and_installs_nothing_when_it_starts() -> None:
    assert arguments("USER")[-1] == "1000:100"
    assert INSTRUCTIONS[-1][0] == "CMD"
    assert not arguments("ENTRYPOINT")
    assert "install" not in arguments("CMD")[0]
    assert not arguments("ADD"), "ADD fetches and unpacks"


def test_everything_but_torch_is_installed_from_the_lock_without_following_anything() -> None:
    installs = [part for run in arguments("RUN") for part in run.split("&&") if "install" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install or "torch==" in install
        assert "--no-cache" in install
    assert any("--require-hashes" in install and "requirements.lock" in install for install in installs)


def test_no_secret_is_baked_in() -> None:
    assert not re.search(r"(?i)(token|password|secret|key)\s*=\s*\S", DOCKERFILE.replace("RAY_AUTH_MODE=token", ""))


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = (IMAGE / "Dockerfile.dockerignore").read_text().split()
    for line in arguments("COPY"):
        if "--from" not in line:
            for source in [word for word in line.split() if not word.startswith("--")][:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in kept, source


def test_lock_holds_what_the_package_asks_for_at_the_tested_versions(writer: ModuleType) -> None:
    assert [f"{name}=={pin}" for name, pin in PINS.items()] == writer.wanted(), f"run {IMAGE / 'lock.py'}"
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}$", LOCK, re.MULTILINE)) == len(PINS) > 80
    assert PINS["ray"] == version("ray")
