"""Figures as files: SVG, PNG and PDF by matplotlib, HTML by plotly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.registry import FigureError, StudyFigure, get_figure

if TYPE_CHECKING:
    from crossover.platform.analysis.tables import StudyTables

__all__ = ["write_figure", "write_figures"]

_SAVED: dict[str, dict[str, Any]] = {  # without the time of writing: the same record gives the same bytes
    ".svg": {"metadata": {"Date": None, "Creator": None}},
    ".png": {"metadata": {"Software": None}, "dpi": 160},
    ".pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


def write_figure(name: str, study: str | Path | StudyTables | Findings, output: Path | None = None) -> Path:
    """Write one figure of a study.

    Args:
        name: of the figure.
        study: its folder, tables or findings.
        output: a file whose ending says the format; by default figures/<name>.svg in the study's folder.

    Raises:
        FigureError: no such figure or format, nothing to draw, or the file cannot be written.
    """
    figure = get_figure(name)
    if output is not None and output.suffix.lower() not in (*_SAVED, ".html"):
        endings = ", ".join([*_SAVED, ".html"])
        raise FigureError(f"cannot write {output}: a figure's file ends in one of {endings}")
    findings = Findings.of(study)
    path = output or findings.tables.path / "figures" / f"{name}.svg"
    try:
        if output is None:
            path.parent.mkdir(exist_ok=True)
        written = _write(figure, findings, path)
    except OSError as error:
        raise FigureError(f"cannot write {path}: {error.strerror}; name a file in a folder that exists") from None
    findings.tables.place.publish(written)
    return written


def write_figures(study: str | Path | StudyTables | Findings) -> list[Path]:
    """Write figures/crossing.svg and figures/crossing.png in the study's folder; none if nothing was evaluated yet."""
    findings, figure = Findings.of(study), get_figure("crossing")
    if not findings.pairs:
        return []
    folder = findings.tables.path / "figures"
    folder.mkdir(exist_ok=True)
    return [_write(figure, findings, folder / f"crossing{suffix}") for suffix in (".svg", ".png")]


def _write(figure: StudyFigure, findings: Findings, path: Path) -> Path:
    if path.suffix.lower() == ".html":
        path.write_text(figure(findings).to_html(include_plotlyjs=True), encoding="utf-8")
        return path
    import matplotlib as mpl

    from crossover.platform.analysis.figures.drawing import STYLE, drawn

    with mpl.rc_context(STYLE):
        drawn(figure, figure.drawing(findings)).savefig(path, **_SAVED[path.suffix.lower()])
    return path
