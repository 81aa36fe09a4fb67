"""Runs the notebooks on the committed quickstart study and writes what they print into them.

`make notebooks`. Figures and warnings are left out of the files: a figure is a megabyte of JSON, and GitHub draws none.
The study is unpacked where the notebooks look for it, so what is run is what a reader runs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "tests" / "data" / "quickstart.tar.xz"
SECONDS = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def workplace(folder: Path) -> Path:
    """`notebooks` and `runs/quickstart` in a folder, as they lie in a checkout after `make demo`; the first of them."""
    with tarfile.open(STUDY) as archive:
        archive.extractall(folder / "runs", filter="data")
    return Path(shutil.copytree(ROOT / "notebooks", folder / "notebooks"))


def executed(notebook: Path) -> NotebookNode:
    """A notebook with its outputs, run in its own folder.

    Raises:
        CellExecutionError: of `nbclient`; a cell raised.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=SECONDS, resources={"metadata": {"path": str(notebook.parent)}}).execute()
    return content


def printed(content: NotebookNode) -> NotebookNode:
    """The same with text and tables alone, and nothing of when it was run."""
    for cell in content.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined([output for output in map(_plain, cell.outputs) if output is not None])
    return content


def _plain(output: NotebookNode) -> NotebookNode | None:
    """Rich prints markup with every line, which is text; a figure and a warning are nothing."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    data = output.data
    if "text/html" not in data and "text/plain" not in data:
        return None
    if data.get("text/html", "").startswith("<pre "):
        text = _COLOUR.sub("", data["text/plain"])
        return nbformat.v4.new_output("stream", name="stdout", text=text)
    return output


def _joined(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Lines of one stream after another as one output."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; by default all")
    names = parser.parse_args(arguments).names
    with tempfile.TemporaryDirectory() as temporary:
        for path in sorted(workplace(Path(temporary)).glob("*.ipynb")):
            if not names or path.stem in names:
                nbformat.write(printed(executed(path)), ROOT / "notebooks" / path.name)
                print(f"notebooks/{path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
