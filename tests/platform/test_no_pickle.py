"""Nothing that a storage holds is unpickled: results, report, status and a resumed trial run under an audit hook."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_study import SyntheticStudy

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
TRAINERS_TESTS = ROOT / "tests" / "trainers"
MAKES_PICKLES = {"platform/data/ray_jobs.py"}  # between processes of one Ray; it reads no file

WATCHED = """
import sys
def hook(event, arguments):
    if event == "pickle.find_class":
        sys.stderr.write(f"unpickled {arguments}\\n")
        sys.stderr.flush()
        import os
        os._exit(99)
sys.addaudithook(hook)
"""


class _Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def plant(folder: Path) -> None:
    """Hostile pickles under the names that libraries look for."""
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        for name in (".metadata", "tuner.pkl", "trainable.pkl", "data.pkl", "checkpoint.pt", "model.bin"):
            if not (place / name).exists():
                (place / name).write_bytes(pickle.dumps(_Hostile()))


def run_watched(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED + code, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINERS_TESTS)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def test_hook_ends_what_unpickles(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(pickle.dumps(_Hostile()))
    done = run_watched("import pickle; pickle.load(open(sys.argv[1], 'rb'))", file)
    assert (done.returncode, "unpickled" in done.stderr) == (99, True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made up, with hostile files everywhere in it."""
    folder = SyntheticStudy().write(tmp_path_factory.mktemp("runs") / "synthetic")
    plant(folder)
    return folder


def test_commands_on_a_study_and_a_trial_that_goes_on_unpickle_nothing(
    study: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one watched process: loading torch takes longer than they do."""
    monkeypatch.syspath_prepend(str(TRAINERS_TESTS))
    import loop_examples as example

    from crossover.trainers.loop import train

    trial = tmp_path / "trial"
    assert train(example.config(tiny_corpus), example.ScriptedRun(trial, until_tokens=900)).status == "paused"
    plant(trial)
    code = """
from pathlib import Path
from crossover.platform.cli import main
study, corpus, trial = sys.argv[1:]
for command in ("results", "status", "report"):
    sys.argv = ["crossover", command, study]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
    print("survived", command)
import loop_examples as example
from crossover.trainers.loop import train
print("survived", train(example.config(Path(corpus)), example.ScriptedRun(Path(trial))).status)
"""
    done = run_watched(code, study, tiny_corpus, trial)
    assert done.returncode == 0, done.stderr
    survived = [line.removeprefix("survived ") for line in done.stdout.splitlines() if line.startswith("survived ")]
    assert survived == ["results", "status", "report", "ended"]


def test_no_module_reads_pickles() -> None:
    wrong = []
    for path in (
        path for package in ("platform", "search_spaces", "trainers") for path in (ROOT / package).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve") for name in names):
                wrong.append(place)
            if isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node) == "torch.load":
                wrong.append(place)
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                wrong.append(place)
    assert not [place for place in wrong if place.rpartition(":")[0] not in MAKES_PICKLES]
