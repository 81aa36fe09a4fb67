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

from crossover.platform.analysis.answers import Answer, answer
from crossover.platform.analysis.curves import DrawnPair, drawn_pairs
from crossover.platform.analysis.figures import write_figures
from crossover.platform.analysis.page_figures import crossing_document, loss_document
from crossover.platform.analysis.palette import DARK, LIGHT
from crossover.platform.analysis.report_tables import (
    crossing_rows,
    facts,
    kind_of,
    seed_rows,
    settings_table,
    study_summary,
    trial_note,
    trial_rows,
)
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.platform.analysis.wording import SHORT
from crossover.trainers.errors import CrossoverError

__all__ = ["render_report", "write_report"]

_GROUNDS = {"light": "#ffffff", "dark": "#12171e"}
_CAPTION = (
    "Validation loss in bits per byte, averaged weights. Thick: mean over seeds; thin: each seed; dots: best "
    "checkpoints; crosses: where training was stopped. Dashed: AR's best so far. Shades and bars: 95 % interval of each"
    " crossing."
)


def write_report(directory: str | Path) -> Path:
    """Write `report.html` and the figures in a study's folder.

    Raises:
        CrossoverError: no study there, or the folder cannot be written.
    """
    tables = load_study(directory)
    found = answer(tables)
    path = tables.path / "report.html"
    try:
        write_figures(tables, found)
        path.write_text(render_report(tables, found), encoding="utf-8")
    except OSError as error:
        raise CrossoverError(f"cannot write {error.filename or path}: {error.strerror}") from None
    return path


def render_report(tables: StudyTables, found: Answer) -> str:
    """The page as text."""
    pairs = drawn_pairs(tables, found)
    documents: dict[str, dict[str, Any]] = {}
    figures, losses = _figures(pairs, documents), _losses(pairs, documents)
    page: str = _template().render(
        study=tables.study,
        answer=found,
        summary=study_summary(tables, found),
        kinds=[kind_of(pair) for pair in found.pairs],
        figures=figures,
        losses=losses,
        crossings=crossing_rows(found),
        seeds=seed_rows(found),
        trials=trial_rows(tables, found),
        trial_note=trial_note(tables, found),
        settings=settings_table(tables, found),
        facts=facts(tables),
        study_yaml=(tables.path / "study.yaml").read_text(encoding="utf-8"),
        documents=[(key, _json(document)) for key, document in documents.items()],
        colours_light=_json(LIGHT | {"ground": _GROUNDS["light"]}),
        colours_dark=_json(DARK | {"ground": _GROUNDS["dark"]}),
        css=Markup(_own("report.css")),
        report_js=Markup(_own("report.js")),
        plotly_js=Markup(_plotly_js()) if documents else "",
    )
    return page


def _figures(pairs: list[DrawnPair], documents: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    shown = []
    for place, pair in enumerate(pairs):
        key = f"crossing-{place}"
        documents[key] = crossing_document(pair)
        shown.append({"key": key, "title": pair.answer.title, "caption": _CAPTION})
    return shown


def _losses(pairs: list[DrawnPair], documents: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    groups = []
    for place, pair in enumerate(pairs):
        shown = []
        for objective in pair.objectives:
            key = f"loss-{place}-{SHORT[objective.name]}"
            documents[key] = loss_document(objective)
            shown.append({"key": key, "caption": f"{SHORT[objective.name]}: {len(objective.trials)} trials"})
        groups.append({"title": pair.answer.title, "figures": shown})
    return groups


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
