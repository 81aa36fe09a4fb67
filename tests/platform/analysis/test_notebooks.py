"""The notebooks run as a reader would run them, on the committed study of real trials."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "docs"))

from notebooks import ROOT, executed, printed, workplace

NAMES = ("plan_a_run", "scaling_laws", "study_results")


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workplace(tmp_path_factory.mktemp("checkout"))


def outputs(content: Any) -> str:
    """All that is printed, tables as text."""
    parts = [output for cell in content.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(part.text if part.output_type == "stream" else part.data.get("text/plain", "") for part in parts)


def test_there_are_no_others() -> None:
    assert tuple(sorted(path.stem for path in (ROOT / "notebooks").iterdir())) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_on_the_committed_study(notebooks: Path, name: str) -> None:
    content = executed(notebooks / f"{name}.ipynb")
    figures = sum(
        "application/vnd.plotly.v1+json" in output.get("data", {})
        for cell in content.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    words = outputs(printed(content))
    assert "Error" not in words
    if name == "study_results":
        assert figures == 1
        assert "trials in both                         20.0" in words
        assert "largest difference, last validation     0.0" in words
        assert "No difference on test" in words
    elif name == "scaling_laws":
        assert figures == 1
        assert "every row has N = 467040" in words
        assert "not-identified: R_D* is not identified" in words
        assert "masked_diffusion below autoregressive, measured" in words
    else:
        assert "because C = 2.07e+20 is above C_crit" in words
        assert "learning_rate:" in words


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebooks_show_what_they_print(name: str) -> None:
    """A reader without an installation sees the answer too; no place of the machine that ran it is in it."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    content = nbformat.read(path, as_version=4)
    prose = [cell for cell in content.cells if cell.cell_type == "markdown"]
    assert len(prose) >= 5
    assert outputs(content).strip()
    assert "/tmp" not in path.read_text() and "Warning" not in path.read_text()
    assert path.stat().st_size < 60_000


def test_only_what_is_text_is_kept() -> None:
    lines = [
        nbformat.v4.new_output(
            "display_data", {"text/html": "<pre style=''>a</pre>", "text/plain": f"\x1b[1m{word}\x1b[0m\n"}
        )
        for word in ("one", "two")
    ]
    warning = nbformat.v4.new_output("stream", name="stderr", text="careful")
    figure = nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": {}})
    cell = nbformat.v4.new_code_cell("print()", outputs=[*lines, warning, figure])
    (kept,) = printed(SimpleNamespace(cells=[cell])).cells[0].outputs
    assert (kept.name, kept.text) == ("stdout", "one\ntwo\n")
