"""Imports go one way, private names stay private, and no file of ours stands in for a standard module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("platform", "search_spaces", "trainers")

FORBIDDEN = {
    "trainers": ("crossover.search_spaces", "crossover.platform", "ray", "optuna", "wandb"),
    "search_spaces": ("crossover.trainers", "crossover.platform", "ray", "optuna", "wandb", "torch"),
}


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("crossover", *(part for part in parts if part != "__init__")))


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, str | None, int]]:
    """(module, imported name or None, line) of every import, also those inside functions; relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield from ((module, alias.name, node.lineno) for alias in node.names)


def imports_of(path: Path) -> Iterator[tuple[str, str | None, int]]:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    yield from imports(ast.parse(path.read_text(encoding="utf-8")), package)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def run_python(code: str) -> str:
    """What a fresh interpreter prints, started with the root of the tree as its working directory."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_scan_sees_every_form_of_import() -> None:
    tree = ast.parse("import a.b\ndef f():\n    from ..c import _d\nfrom . import e\nfrom g import h as i")
    assert sorted(imports(tree, "crossover.x.y"), key=str) == sorted(
        [("a.b", None, 1), ("crossover.x.c", "_d", 3), ("crossover.x.y", "e", 4), ("g", "h", 5)], key=str
    )


@pytest.mark.parametrize("package", FORBIDDEN)
def test_lower_layers_import_neither_each_other_nor_what_runs_them(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in python_files(package)
        for module, name, line in imports_of(path)
        for forbidden in FORBIDDEN[package]
        if is_within(module, forbidden) or (name and is_within(f"{module}.{name}", forbidden))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_the_private_names_of_another_module(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name or module} from {module}"
        for path in python_files(package)
        for module, name, line in imports_of(path)
        if is_within(module, "crossover") and (is_private(name or "") or any(map(is_private, module.split("."))))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_reaches_for_a_private_attribute_of_an_imported_module(package: str) -> None:
    wrong = []
    for path in python_files(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and is_within(node.module or "", "crossover")
            for alias in node.names
        }
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} uses {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ours
            and is_private(node.attr)
        ]
    assert not wrong, "\n".join(wrong)


def test_no_module_takes_the_name_of_a_standard_module() -> None:
    taken = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in python_files(package)
        if (path.parent.name if path.name == "__init__.py" else path.stem) in sys.stdlib_module_names
    ]
    assert not taken, f"these stand in for the standard library when their folder is on the path: {taken}"


def test_no_top_level_folder_is_a_package_with_the_name_of_a_standard_module() -> None:
    shadowing = [
        path.name
        for path in ROOT.iterdir()
        if path.stem in sys.stdlib_module_names and (path.suffix == ".py" or (path / "__init__.py").exists())
    ]
    assert not shadowing, f"remove __init__.py from {shadowing}: it would replace the standard library's module"


def test_the_standard_platform_module_wins_at_the_root_of_the_tree() -> None:
    code = "import platform, sys; assert sys.path[0] == '', sys.path; print(platform.__file__, platform.system())"
    file, system = run_python(code).rsplit(" ", 1)
    assert not Path(file).is_relative_to(ROOT / "platform")
    assert system in ("Linux", "Darwin", "Windows")


@pytest.mark.parametrize(("package", "blocked"), [("trainers", ["ray"]), ("search_spaces", ["torch", "ray"])])
def test_lower_layers_import_where_the_libraries_above_them_are_absent(package: str, blocked: list[str]) -> None:
    modules = [module_name(path) for path in python_files(package) if path.name != "__main__.py"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted(name for name in sys.modules if name.startswith('crossover.')))"
    )
    imported = ast.literal_eval(run_python(code))
    assert set(modules) <= set(imported)
    assert not any(is_within(name, "crossover.platform") for name in imported)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["platform", "search_spaces", "trainers"])
def test_every_module_can_be_the_first_that_is_imported(package: str) -> None:
    modules = [module_name(path) for path in python_files(package) if path.name != "__main__.py"]
    code = (
        "import importlib, sys\n"
        f"for first in {modules!r}:\n"
        "    for name in [name for name in sys.modules if name.startswith('crossover.')]: del sys.modules[name]\n"
        "    importlib.import_module(first)\n"
    )
    assert not run_python(code)
