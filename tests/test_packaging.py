"""The wheel holds what the tree holds, and the requirements are those that the code has."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import metadata, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("platform", "search_spaces", "trainers")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.!]*)")


def files_of_the_tree() -> set[str]:
    """Every file of the three folders, code and data, by its path below `crossover`."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def requirements(group: str | None = None) -> list[Requirement]:
    project = PYPROJECT["project"]
    lines = project["dependencies"] if group is None else project["optional-dependencies"][group]
    return [Requirement(line) for line in lines]


def name_of(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def imported_modules() -> set[str]:
    """First parts of the absolute imports of the packages, also those inside functions."""
    names: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel that is built from a copy of the tree, by the build hook that pip calls."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
        shutil.copy(path, copy)
    hook = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    (copy / "dist").mkdir()
    done = subprocess.run([sys.executable, "-c", hook], cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


def test_listed_packages_are_the_folders_of_the_tree() -> None:
    folders = {Path(file).parent for file in files_of_the_tree()}
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == {".".join(("crossover", *folder.parts)) for folder in folders}


def test_every_package_but_platform_has_an_init_file() -> None:
    folders = {Path(file).parent for file in files_of_the_tree()}
    assert {str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()} == {"platform"}


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel: zipfile.ZipFile) -> None:
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert in_wheel == {f"crossover/{file}" for file in files_of_the_tree()}


def test_the_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    texts = {name.split(".dist-info/")[1]: wheel.read(name) for name in wheel.namelist() if ".dist-info/" in name}
    assert b"crossover = crossover.platform.cli:main" in texts["entry_points.txt"]
    assert texts["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_version_is_written_in_pyproject_alone(wheel: zipfile.ZipFile) -> None:
    version = PYPROJECT["project"]["version"]
    assert metadata("crossover")["Version"] == version, "pyproject.toml changed: run make setup"
    assert f"crossover-{version}.dist-info/METADATA" in wheel.namelist()
    repeated = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == version
    ]
    assert not repeated, f"{version} is repeated; read it with importlib.metadata: {repeated}"


def test_every_runtime_requirement_is_imported_somewhere() -> None:
    distributions = packages_distributions()
    used = {canonicalize_name(name) for module in imported_modules() for name in distributions.get(module, [])}
    assert not {name_of(requirement) for requirement in requirements()} - used


def test_every_imported_library_is_a_requirement() -> None:
    distributions = packages_distributions()
    groups = [None, *(group for group in PYPROJECT["project"]["optional-dependencies"] if group != "dev")]
    required = {name_of(requirement) for group in groups for requirement in requirements(group)}
    foreign = imported_modules() - sys.stdlib_module_names - {"crossover"}
    providers = {module: {canonicalize_name(name) for name in distributions.get(module, [])} for module in foreign}
    assert not {module for module, names in providers.items() if not names & required}


@pytest.mark.parametrize("group", [None, *PYPROJECT["project"]["optional-dependencies"]])
def test_constraints_pin_every_direct_requirement_inside_its_range(group: str | None) -> None:
    pinned = pins()
    wrong = [
        f"{requirement} against {pinned.get(name_of(requirement))}"
        for requirement in requirements(group)
        if name_of(requirement) not in pinned or pinned[name_of(requirement)] not in requirement.specifier
    ]
    assert not wrong, f"constraints.txt does not satisfy pyproject.toml: {wrong}"


def test_constraints_are_exact_pins_without_places_or_build_tags() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not line.startswith("#") and not PIN.fullmatch(line)]
    assert not wrong
