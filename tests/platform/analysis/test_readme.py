"""`make readme`: what a finished study says, between the markers of the documents."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_study import SyntheticStudy

from crossover.platform.analysis import answer, load_study

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
Refresh = Callable[[Path, Path], tuple[int, str]]
BEGIN, END = "<!-- quickstart:begin -->", "<!-- quickstart:end -->"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The documents alone."""
    (tmp_path / "docs/figures").mkdir(parents=True)
    for name in ("README.md", "docs/findings.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def refresh(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refresh:
    """Runs the script in this process: its exit code and what it said of mistakes."""

    def run(study: Path, checkout: Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["quickstart.py", str(study), "--root", str(checkout)])
        code: object = 0
        try:
            runpy.run_path(str(ROOT / "docs/quickstart.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        return code, capsys.readouterr().err

    return run


def parts(path: Path) -> tuple[str, str, str]:
    before, _, rest = path.read_text().partition(BEGIN)
    block, _, after = rest.partition(END)
    return before, block, after


def test_blocks_say_the_answer_and_the_rest_is_left(study_folder: Path, checkout: Path, refresh: Refresh) -> None:
    documents = [checkout / "README.md", checkout / "docs/findings.md"]
    before = [parts(path) for path in documents]
    assert refresh(study_folder, checkout) == (0, "")
    after = [parts(path) for path in documents]
    assert [(a, c) for a, _, c in after] == [(a, c) for a, _, c in before]
    readme, findings = (block for _, block, _ in after)
    for pair in answer(load_study(study_folder)).pairs:
        assert pair.test is not None and pair.baseline is not None and pair.baseline.test is not None
        for seed in pair.seeds:
            assert f"| {seed.repeat} | {seed.baseline_test:.3f} | {seed.challenger_test:.3f} | " in readme
        interval = f"{pair.test.mean:+.3f} [{pair.test.low:+.3f}, {pair.test.high:+.3f}]".replace("-", "\N{MINUS SIGN}")
        assert f"| {pair.baseline.test.mean:.3f} | " in readme and interval in readme and interval in findings
    for suffix in (".png", ".svg"):
        assert (checkout / f"docs/figures/quickstart{suffix}").read_bytes() == (
            study_folder / f"figures/crossing{suffix}"
        ).read_bytes()
    texts = [path.read_text() for path in documents]
    refresh(study_folder, checkout)
    assert [path.read_text() for path in documents] == texts, "a second time changes nothing"


def test_a_study_that_is_not_finished_or_has_lost_a_trial_changes_nothing(
    tmp_path: Path, checkout: Path, refresh: Refresh
) -> None:
    folder = SyntheticStudy(recipes=("shared",), num_documents=30).write(tmp_path / "study")
    shutil.rmtree(folder / "trials" / next(iter(load_study(folder).files)))
    texts = [(checkout / name).read_text() for name in ("README.md", "docs/findings.md")]
    code, said = refresh(folder, checkout)
    assert code == 2
    assert "1 trial that ended has no record any more" in said
    assert [(checkout / name).read_text() for name in ("README.md", "docs/findings.md")] == texts


def test_documents_without_markers_are_one_error(study_folder: Path, checkout: Path, refresh: Refresh) -> None:
    (checkout / "docs/findings.md").write_text("# Findings\n")
    readme = (checkout / "README.md").read_text()
    code, said = refresh(study_folder, checkout)
    assert (code, said.count("\n")) == (2, 1)
    assert f"findings.md must hold {BEGIN}" in said
    assert (checkout / "README.md").read_text() == readme
