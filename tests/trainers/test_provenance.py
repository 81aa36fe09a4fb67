from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from crossover.trainers import provenance as module
from crossover.trainers.provenance import provenance


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    provenance.cache_clear()


def test_versions_are_those_that_are_installed() -> None:
    packages = provenance().packages
    assert packages["torch"] == importlib.metadata.version("torch")
    assert packages["ray"] == importlib.metadata.version("ray")
    assert provenance().python == ".".join(map(str, sys.version_info[:3]))


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "no-such-package"))
    assert set(provenance().packages) == {"torch"}


def test_the_commit_is_that_of_the_checkout_and_says_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    git("tag", "v1")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "module.py"))
    assert provenance().git_commit == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    provenance.cache_clear()
    assert provenance().git_commit == git("rev-parse", "HEAD") + "-dirty"


def test_an_unknown_commit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "module.py"))
    monkeypatch.chdir(tmp_path)
    assert provenance().git_commit is None
    provenance.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance().git_commit is None, "without git"
