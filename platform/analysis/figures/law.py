"""A scaling law of the study's own rows: how it fits, what it misses, and whether it predicted its largest runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.figures.documents import Document, layout, line, log_ticks, marks
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import ink
from crossover.platform.analysis.figures.registry import Drawing, Panel, register_figure
from crossover.platform.analysis.scaling_laws import LawFit, Prediction
from crossover.platform.analysis.wording import amount

__all__ = ["law"]

Floats = NDArray[np.float64]
_SYMBOLS = ("circle", "square", "diamond", "triangle-up")


@register_figure(
    "law",
    title="Scaling law",
    caption="A law of parameters N, tokens D and unique tokens U, fitted to the configurations that were chosen. On "
    "the dashed line: exactly as fitted. Residuals without a trend are noise. Held out: the largest runs, predicted "
    "from the others, with the interval in which one run should lie.",
)
def law(findings: Findings) -> Drawing:
    """Fit, residuals and held-out predictions."""
    fit = findings.law
    if isinstance(fit, str):
        return Drawing((), (fit,))
    panels = [_fitted(fit), _residual_panel(fit)]
    if fit.held_out is not None:
        panels.append(_held_out(fit, fit.held_out.predictions, fit.held_out.share_inside))
    return Drawing.of(panels, *fit.flags)


def _residuals_of(fit: LawFit) -> Floats:
    """Measured less fitted, in per cent, in the order of the rows."""
    found: Floats = -100 * fit.solution.problem.residuals(fit.solution.theta_P[None])[0]
    return found


def _fitted(fit: LawFit) -> Panel:
    measured = fit.table.loss
    fitted = measured / np.exp(_residuals_of(fit) / 100)
    data = [_diagonal(measured)]
    for place, family in enumerate(fit.families):
        rows = fit.table.family == family
        data.append(_cloud(fit, place, fitted[rows], measured[rows], np.flatnonzero(rows)))
    axes = [{"title": {"text": f"{what}, nats per token"}} for what in ("fitted loss", "measured loss")]
    return Panel(f"{fit.law} law", {"data": data, "layout": layout(*axes)}, _summary(fit))


def _residual_panel(fit: LawFit) -> Panel:
    tokens, residuals = fit.table.tokens, _residuals_of(fit)
    data = [
        _cloud(fit, place, tokens[rows], residuals[rows], np.flatnonzero(rows))
        for place, family in enumerate(fit.families)
        for rows in [fit.table.family == family]
    ]
    across = log_ticks(float(tokens.min()), float(tokens.max()), si=True) | {"title": {"text": "tokens seen D"}}
    document = layout(across, {"title": {"text": "measured less fitted, %"}})
    document["shapes"] = [_zero()]
    errors = ", ".join(f"{family} {100 * error:.2g} %" for family, error in fit.residual_errors().items())
    return Panel("Residuals", {"data": data, "layout": document}, f"typical error of one run: {errors}")


def _held_out(fit: LawFit, predictions: Sequence[Prediction], share: float) -> Panel:
    """Measured less predicted, over the interval of each."""
    data: list[Document] = []
    flops = [6 * p.N * p.D for p in predictions]
    for place, family in enumerate(fit.families):
        own = [p for p in predictions if p.family == family and p.measured is not None]
        bars = [(6 * p.N * p.D, 100 * math.log(end / p.loss)) for p in own for end in (p.low, p.high, math.nan)]
        name = f"{100 * own[0].level:.3g} % interval" if own else ""
        data.append(line([x for x, _ in bars], [y for _, y in bars], _colour(family), f"{family}, {name}", width=5,
                         opacity=0.3))  # fmt: skip
        points = [(6 * p.N * p.D, 100 * math.log((p.measured or math.nan) / p.loss)) for p in own]
        about = [f"N {amount(p.N)}, D {amount(p.D)}, U {amount(p.U)}" for p in own]
        data.append(
            marks(points, _colour(family), family, _SYMBOLS[place % len(_SYMBOLS)], about, legend=False, size=7)
        )
    across = log_ticks(min(flops), max(flops), si=True) | {"title": {"text": "FLOPs 6 N D of the held-out run"}}
    document = layout(across, {"title": {"text": "measured less predicted, %"}})
    document["shapes"] = [_zero()]
    words = f"{share:.0%} of {len(predictions)} held-out rows lie in their {100 * predictions[0].level:.3g} % interval"
    return Panel("Held out: the largest runs", {"data": data, "layout": document}, words)


def _zero() -> Document:
    return {"type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "xref": "x domain", "yref": "y", "layer": "below",
            "line": {"color": "--muted", "width": 1, "dash": "dash"}}  # fmt: skip


def _cloud(fit: LawFit, place: int, x: Floats, y: Floats, rows: NDArray[np.intp]) -> Document:
    family, table = fit.families[place], fit.table
    about = [f"N {amount(table.params[r])}, D {amount(table.tokens[r])}, U {amount(table.unique[r])}" for r in rows]
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    return marks(points, _colour(family), family, _SYMBOLS[place % len(_SYMBOLS)], about, size=7, opacity=0.75)


def _diagonal(values: Floats) -> Document:
    ends = [float(values.min()), float(values.max())]
    return line(ends, ends, "--muted", "as fitted", dash="dash")


def _colour(family: str) -> str:
    """A study's family is an objective, with settings behind a comma."""
    return ink(family.partition(",")[0])


def _summary(fit: LawFit) -> str:
    runs = "" if fit.num_runs == fit.num_rows else f" of {fit.num_runs} runs"
    open_ = [p.name for p in fit.parameters if not p.identified]
    return f"{fit.num_rows} rows{runs}" + (f"; not identified: {', '.join(open_)}" if open_ else "")
