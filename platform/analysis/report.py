"""The report: one HTML page that answers first, works offline and asks nobody for anything.

Everything that comes from the study is escaped by the template; the only unescaped parts are our own style and script,
plotly's, and JSON whose `<` is written as `\\u003c`. The same record gives the same page: no time of writing is in it.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from crossover.platform.analysis.figures import Findings, StudyFigure, all_figures, write_figures
from crossover.platform.analysis.figures.documents import Document
from crossover.platform.analysis.figures.legends import legend_of
from crossover.platform.analysis.headline import headline
from crossover.platform.analysis.palette import DARK, LIGHT
from crossover.platform.analysis.report_plan import plan_section
from crossover.platform.analysis.report_tables import (
    crossing_rows,
    facts,
    kind_of,
    law_rows,
    seed_rows,
    settings_table,
    study_summary,
    trial_note,
    trial_rows,
)
from crossover.trainers.errors import CrossoverError

__all__ = ["render_report", "write_report"]

_GROUNDS = {"light": "#ffffff", "dark": "#12171e"}


def write_report(study: str | Path | Findings) -> Path:
    """Write `report.html` and the figures in a study's folder; of one in an object store also in this machine's copy.

    Returns:
        The page on this machine.

    Raises:
        CrossoverError: no study there, or the folder cannot be written.
    """
    findings = Findings.of(study)
    place, path = findings.tables.place, findings.tables.path / "report.html"
    try:
        figures = write_figures(findings)
        path.write_text(render_report(findings), encoding="utf-8")
    except OSError as error:
        raise CrossoverError(f"cannot write {error.filename or path}: {error.strerror}") from None
    for written in (*figures, path):
        place.publish(written)
    return path


def render_report(findings: Findings) -> str:
    """The page as text."""
    tables, found = findings.tables, findings.answer
    documents: dict[str, Document] = {}
    sections = {name: _section(figure, findings, documents) for name, figure in all_figures().items()}
    page: str = _template().render(
        study=tables.study,
        answer=found,
        headline=headline(found),
        summary=study_summary(tables, found),
        kinds=[kind_of(pair) for pair in found.pairs],
        plan=plan_section(findings.plan),
        sections=sections,
        crossings=crossing_rows(found),
        law=law_rows(findings.law),
        formula="" if isinstance(findings.law, str) else findings.law.formula,
        seeds=seed_rows(found),
        trials=trial_rows(tables, found),
        trial_note=trial_note(tables, found),
        settings=settings_table(tables, found),
        facts=facts(tables),
        study_yaml=(tables.path / "study.yaml").read_text(encoding="utf-8"),
        documents=[(key, _json(document)) for key, document in documents.items()],
        light=LIGHT,
        dark=DARK,
        colours_light=_json(LIGHT | {"ground": _GROUNDS["light"]}),
        colours_dark=_json(DARK | {"ground": _GROUNDS["dark"]}),
        css=Markup(_own("report.css")),
        report_js=Markup(_own("report.js")),
        plotly_js=Markup(_plotly_js()) if documents else "",
    )
    return page


def _section(figure: StudyFigure, findings: Findings, documents: dict[str, Document]) -> dict[str, Any]:
    """What the template shows of a figure; its documents are put beside, under a key each."""
    drawn = figure.draw(findings)
    panels = []
    for place, panel in enumerate(drawn.panels):
        key = f"figure-{figure.name}-{place}"
        documents[key] = panel.document | {"layout": panel.document["layout"] | {"showlegend": False}}
        panels.append({"key": key, "panel": panel})
    return {"figure": figure, "panels": panels, "notes": drawn.notes, "legend": legend_of(drawn.panels)}


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_own("report.html.jinja"))


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


def _json(value: Any) -> Markup:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
